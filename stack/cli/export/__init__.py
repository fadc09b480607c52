"""`ultrathink export`: from a registered model to a verified, released, reversible Triton version."""

from __future__ import annotations

from stack.cli.export import checks, publish, releases, verification
from stack.cli.export.command import app

__all__ = ["app", "checks", "publish", "releases", "verification"]

"""`ultrathink data`."""

from __future__ import annotations

from stack.cli.data import datasets, serve
from stack.cli.data.command import app

__all__ = ["app", "datasets", "serve"]

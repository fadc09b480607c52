"""`ultrathink forensics`: the audit trail, run, looked at and proven."""

from __future__ import annotations

from stack.cli.forensics import look, otherwise, proofs, replay, run
from stack.cli.forensics.command import app

__all__ = ["app", "look", "otherwise", "proofs", "replay", "run"]

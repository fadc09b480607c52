"""`ultrathink forensics`: the audit trail, run, looked at and proven."""

from __future__ import annotations

from stack.cli.forensics import explain, gaps, look, otherwise, proofs, rebind, replay, report, run
from stack.cli.forensics.command import app

__all__ = ["app", "explain", "gaps", "look", "otherwise", "proofs", "rebind", "replay", "report", "run"]

"""`ultrathink loadtest`: arrivals fixed beforehand, judged by targets."""

from __future__ import annotations

from stack.cli.loadtest import runs, searches, verdicts
from stack.cli.loadtest.command import app

__all__ = ["app", "runs", "searches", "verdicts"]

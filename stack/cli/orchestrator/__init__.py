"""`ultrathink orchestrator`: trainings that run by themselves."""

from __future__ import annotations

from stack.cli.orchestrator import runs, schedules
from stack.cli.orchestrator.command import app

__all__ = ["app", "runs", "schedules"]

"""`ultrathink experiment`: models compared on the desk's own ticks."""

from __future__ import annotations

from stack.cli.experiment import lifecycle
from stack.cli.experiment.command import app

__all__ = ["app", "lifecycle"]

"""`ultrathink stack`."""

from __future__ import annotations

from stack.cli.stack import backups, looking, machine
from stack.cli.stack.command import app, start

__all__ = ["app", "backups", "looking", "machine", "start"]

"""`ultrathink risk`: limits tried, proven, explained and changed."""

from __future__ import annotations

from stack.cli.risk import limits, orders, rules, simulation
from stack.cli.risk.command import app

__all__ = ["app", "limits", "orders", "rules", "simulation"]

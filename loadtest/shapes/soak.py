"""Slowly up, long and steady, slowly down."""

from __future__ import annotations

from typing import Any

from loadtest.shapes.base import Shape

RAMP = 0.1


class Soak(Shape):
    """Slowly up, long and steady, slowly down."""

    def share(self, at: float, options: Any) -> float:  # noqa: ARG002 (every shape has one signature)
        """See the class."""
        return min(1.0, at / RAMP, (1.0 - at) / RAMP)

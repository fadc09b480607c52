"""As many users from the beginning to the end."""

from __future__ import annotations

from typing import Any

from loadtest.shapes.base import Shape


class Constant(Shape):
    """As many users from the beginning to the end."""

    def share(self, at: float, options: Any) -> float:  # noqa: ARG002 (every shape has one signature)
        """See the class."""
        return 1.0

"""A fifth of the users, all of them for a tenth of the time, a fifth again: does it recover?"""

from __future__ import annotations

from typing import Any

from loadtest.shapes.base import Shape

BASE, BEGINS, ENDS = 0.2, 0.45, 0.55


class Spike(Shape):
    """A fifth of the users, all of them for a tenth of the time, a fifth again: does it recover?"""

    def share(self, at: float, options: Any) -> float:  # noqa: ARG002 (every shape has one signature)
        """See the class."""
        return 1.0 if BEGINS <= at < ENDS else BASE

"""Five steps, each held: where does latency begin to rise?"""

from __future__ import annotations

from typing import Any

from loadtest.shapes.base import Shape

STEPS = 5


class Step(Shape):
    """Five steps, each held: where does latency begin to rise?"""

    def share(self, at: float, options: Any) -> float:  # noqa: ARG002 (every shape has one signature)
        """See the class."""
        return (int(at * STEPS) + 1) / STEPS

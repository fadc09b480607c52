"""What every shape shares: a length, a peak, and users as a share of it."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

from locust import LoadTestShape

#: Users that begin or end a second.
SPAWN_RATE = 100.0


class Shape(LoadTestShape):
    """Users over time, from --peak-users and --shape-time; the test ends with the shape."""

    abstract = True

    def tick(self) -> tuple[int, float] | None:
        """Locust asks once a second: users and how many begin or end a second; None ends the test."""
        runner: Any = self.runner
        options = runner.environment.parsed_options
        at = float(self.get_run_time()) / options.shape_time  # type: ignore[no-untyped-call]
        if at >= 1.0:
            return None
        return max(1, math.ceil(options.peak_users * self.share(at, options))), SPAWN_RATE

    @abstractmethod
    def share(self, at: float, options: Any) -> float:
        """Of the peak, 0 to 1, at a moment of the test, 0 to 1."""

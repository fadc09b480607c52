"""The machine's wall clock."""

from __future__ import annotations

import time


class SystemClock:
    """Implements Clock."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since the machine's start."""
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """Give the processor away for so long."""
        time.sleep(seconds)

    def now_ns(self) -> int:
        """Nanoseconds since 1970 UTC."""
        return time.time_ns()

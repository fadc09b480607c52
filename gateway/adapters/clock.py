"""The machine's wall clock."""

from __future__ import annotations

import time


class SystemClock:
    """Implements Clock."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970 UTC."""
        return time.time_ns()

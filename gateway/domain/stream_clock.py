"""The clock that the stream itself drives: the newest event time of a partition."""

from __future__ import annotations

import numpy as np

from gateway.domain.schemas import Int64Array


class StreamClock:
    """Ages are measured against it, so that a replay of 1990 and a live feed decide alike.

    Attributes:
        cell: int64 [1], the time, for code that moves it over a whole batch.
    """

    def __init__(self, now_ns: int = 0) -> None:
        self.cell: Int64Array = np.array([now_ns], np.int64)

    @property
    def now_ns(self) -> int:
        """The newest event time, nanoseconds since 1970 UTC."""
        return int(self.cell[0])

    def advance(self, event_time_ns: int) -> None:
        """Note the time of an event."""
        self.cell[0] = max(self.now_ns, event_time_ns)

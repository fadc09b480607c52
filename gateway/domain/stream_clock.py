"""The clock that the stream itself drives: the newest event time of a partition."""

from __future__ import annotations


class StreamClock:
    """Ages are measured against it, so that a replay of 1990 and a live feed decide alike."""

    def __init__(self, now_ns: int = 0) -> None:
        self.now_ns = now_ns

    def advance(self, event_time_ns: int) -> int:
        """Note a tick; return its age in ns: 0 for the newest, more for one that came late."""
        self.now_ns = max(self.now_ns, event_time_ns)
        return self.age_ns(event_time_ns)

    def age_ns(self, event_time_ns: int) -> int:
        """How far an event lies behind the newest."""
        return self.now_ns - event_time_ns

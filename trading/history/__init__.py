"""Readers of recorded ticks, one small file a format, and the simulator."""

from trading.history.opening import open_source
from trading.history.source import Record, Source

__all__ = ["Record", "Source", "open_source"]

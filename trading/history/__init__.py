"""Readers of recorded ticks, one small file a format, and the simulator."""

from trading.history.source import Record, Source, open_source

__all__ = ["Record", "Source", "open_source"]

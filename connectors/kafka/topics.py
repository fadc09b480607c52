"""The names of all topics."""

from __future__ import annotations

from msgspec import Struct


class Topics(Struct, frozen=True):
    """Names. All but `control` have the same number of partitions: what belongs to a tick lies beside it."""

    ticks: str = "market.ticks"
    decisions: str = "trading.decisions"
    dead_letters: str = "market.ticks.dlq"
    snapshots: str = "gateway.snapshots"
    control: str = "gateway.control"
    orders: str = "trading.orders"
    fills: str = "trading.fills"

"""What overload sheds: a tick whose budget is spent, and one that a newer tick of its symbol supersedes.

Features see every tick, and every tick gets an audited decision; only inference is saved.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.domain.schemas import Reason, Tick


def triage(
    ticks: Sequence[Tick], left_ns: Sequence[int], reserve_ns: int, shed_below_ns: int
) -> list[Reason | None]:
    """Why each tick is not sent for inference; None where it is.

    Args:
        ticks: of one partition, in order.
        left_ns: what is left of each tick's budget.
        reserve_ns: a tick with no more than this left cannot be decided in time.
        shed_below_ns: a tick with less than this left is decided only if it is its symbol's newest.
    """
    if not ticks or min(left_ns) >= max(shed_below_ns, reserve_ns + 1):
        return [None] * len(ticks)
    newest = {tick.symbol: k for k, tick in enumerate(ticks)}
    return [
        Reason.DEADLINE
        if left <= reserve_ns
        else Reason.SUPERSEDED
        if left < shed_below_ns and newest[tick.symbol] != k
        else None
        for k, (tick, left) in enumerate(zip(ticks, left_ns, strict=True))
    ]

"""From a target to a quantity. Compiled."""

from __future__ import annotations

from trading.compiled import entry
from trading.risk.engine import round_to_lot


@entry
def target_quantity(target: float, mid: float, largest: float, lot: float) -> float:
    """Signed position that a target means, in units: its share of the largest position, rounded down to a lot.

    Args:
        target: in [-1, 1] of the largest position.
        mid: price of one unit, in money.
        largest: position limit, in money.
        lot: in units.
    """
    return round_to_lot(target * largest / mid, lot)

"""What overload sheds: a tick whose budget is spent, and one that a newer tick of its symbol supersedes.

Features see every tick, and every tick gets an audited decision; only inference is saved.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trading.arrays import CodeArray, Int64Array
from trading.decision.schema import CODES, Reason

ASKED = -1
_DEADLINE, _SUPERSEDED = CODES[Reason.DEADLINE], CODES[Reason.SUPERSEDED]


def triage(symbols: Sequence[str], left_ns: Int64Array, reserve_ns: int, shed_below_ns: int) -> CodeArray:
    """Why each tick is not sent for inference, int8 [n]; negative where it is.

    Args:
        symbols: of one partition's ticks, in order.
        left_ns: int64 [n], what is left of each tick's budget.
        reserve_ns: a tick with no more than this left cannot be decided in time.
        shed_below_ns: a tick with less than this left is decided only if it is its symbol's newest.
    """
    found = np.full(len(symbols), ASKED, np.int8)
    if not len(symbols) or left_ns.min() >= max(shed_below_ns, reserve_ns + 1):
        return found
    newest = {symbol: k for k, symbol in enumerate(symbols)}
    older = np.ones(len(symbols), np.bool_)
    older[list(newest.values())] = False
    found[older & (left_ns < shed_below_ns)] = _SUPERSEDED
    found[left_ns <= reserve_ns] = _DEADLINE
    return found

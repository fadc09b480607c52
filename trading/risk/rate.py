"""How many of a ring's times lie within a window; no rule of its own."""

from __future__ import annotations

from trading.arrays import Int64Array
from trading.compiled import inline
from trading.risk.model import SECOND


@inline
def within_window(times_ns: Int64Array, count: int, now_ns: int, window_s: float) -> int:
    """Of the newest times those less than the window ago; a ring holds as many as any limit allows.

    Args:
        times_ns: int64 [.], a ring: time k is at k modulo its length.
        count: how many times were ever put into it.
        now_ns: event time.
        window_s: its length.
    """
    size = len(times_ns)
    # They never fall: the first that is old enough is found by halving.
    recent, all_of_them = 0, min(count, size)
    while recent < all_of_them:
        back = (recent + all_of_them + 1) // 2
        if now_ns - times_ns[(count - back) % size] < window_s * SECOND:
            recent = back
        else:
            all_of_them = back - 1
    return recent

"""Sums that do not drift: what leaves them leaves them as it came, however large something was meanwhile. Compiled.

A sum is kept as two numbers, the total and what a number of its size cannot hold: about 32 decimal digits
together. After one print at a million times the price nothing of the others is lost.
"""

from __future__ import annotations

import math

from trading.compiled import inline


@inline
def added(total: float, rest: float, value: float) -> tuple[float, float]:
    """A sum with one value more (Knuth's two-sum, twice)."""
    rough, lost = two_sum(total, value)
    found, left = two_sum(rough, rest + lost)
    return found, left if math.isfinite(left) else 0.0


@inline
def two_sum(a: float, b: float) -> tuple[float, float]:
    """A + b, and what is lost of it by rounding: Knuth, The Art of Computer Programming 2, 4.2.2, theorem B."""
    total = a + b
    grown = total - a
    return total, (a - (total - grown)) + (b - grown)

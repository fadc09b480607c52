"""How far two arrays of answers are apart."""

from __future__ import annotations

import numpy as np

from exporters.formats.tensors import Array
from exporters.parity.tolerance import absolute


def max_abs(a: Array, b: Array) -> float:
    """The largest |a - b| of all."""
    return float(absolute(a, b).max(initial=0.0))


def max_rel(a: Array, b: Array) -> float:
    """|a - b| / |a|; where a is 0, infinite unless b is too."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(x - y) / np.abs(x))
    return float(np.where(np.isnan(apart), np.inf, apart).max(initial=0.0))


def max_ulp(a: Array, b: Array) -> int:
    """Largest distance in units in the last place: how many numbers lie between, of the array's own dtype."""
    if a.dtype.kind != "f":
        return 0
    both = np.isfinite(a) & np.isfinite(b)
    return int(np.abs(_ordered(a[both]) - _ordered(b[both])).max(initial=0))


def _ordered(values: Array) -> Array:
    """Floats as integers in the same order: negative ones count down from zero."""
    width = values.dtype.itemsize
    bits = np.ascontiguousarray(values).view(f"i{width}").astype(np.int64)
    lowest = -(2 ** (8 * width - 1))
    return np.where(bits < 0, lowest - bits, bits)

"""The batch sizes with which a row's answer does not depend on its company.

Sums of floats depend on the order of their terms, and vectorised code treats the rows that fill no vector in
another way. Where batches are padded to a multiple of these, a restart that cuts the stream otherwise decides the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from msgspec import Struct

from trading.arrays import Float32Array

#: Batch sizes whose multiples are tried, smallest first, and the multiples.
MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SPREAD = (1, 2, 3, 4, 5, 6, 7, 9, 13, 16, 21, 32, 43, 64, 85, 127, 128, 200, 256, 341, 512, 700, 1000)
#: Rows, float32 [n, features], to the bytes of each output.
Ask = Callable[[Float32Array], Sequence[bytes]]


class BatchTest(Struct, frozen=True):
    """What a model answered to all rows of the probe at once, an output each, and the multiple."""

    answers: list[bytes]
    rows_multiple: int


def batch_test(ask: Ask, probe: Float32Array, most: int) -> BatchTest:
    """Try batches of many sizes, smaller multiples first; `most` where no multiple does. Raises as `ask`."""
    whole, largest = list(ask(probe)), len(probe)
    same = partial(is_same, ask, probe, whole)
    for multiple in MULTIPLES:
        sizes = sorted({multiple * k for k in SPREAD if multiple * k < largest})
        if all(same(n, at) for n in sizes for at in (0, min(5, largest - n), largest - n)):
            return BatchTest(whole, multiple)
    return BatchTest(whole, most)


def is_same(ask: Ask, probe: Float32Array, whole: Sequence[bytes], rows: int, at: int) -> bool:
    """Whether some rows of the probe alone are answered as among all of it."""
    widths = [len(content) // len(probe) for content in whole]
    found = ask(probe[at : at + rows])
    return all(
        content == of_all[at * width : (at + rows) * width]
        for content, of_all, width in zip(found, whole, widths, strict=True)
    )

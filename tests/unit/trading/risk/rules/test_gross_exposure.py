"""`gross_exposure`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import traded
from tests.traded_book import result


def test_exposure_is_the_larger_of_what_either_side_could_become():
    made = traded(max_gross_notional=1_000.0)
    made.work(9.0)
    # Selling 5 leaves 5 short at most; the buy that works is still the larger exposure.
    assert result(made.judge(-5.0), "gross_exposure").value == 900.0
    assert result(made.judge(-9.5), "gross_exposure").value == 950.0
    held = traded(max_gross_notional=1_000.0, max_position_notional=1_000.0)
    held.hold(-3.0)
    held.work(-4.0)
    held.work(2.0)
    assert held.book.gross == 700.0
    assert result(held.judge(-1.0), "position_limit").value == 800.0
    over = held.judge(-5.0)
    assert (over.quantity, set(over.broken)) == (-3.0, {"position_limit", "gross_exposure"})
    # Buying 11: the 2 that work and these would make 10 long; 3 shorts come first.
    assert held.judge(11.5).quantity == 11.0
    assert result(held.judge(1.0), "gross_exposure").value == 700.0

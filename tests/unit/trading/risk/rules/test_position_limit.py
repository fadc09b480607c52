"""`position_limit`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import CLIP, traded
from tests.traded_book import result


def test_zipline_leaves_working_orders_out_of_the_position_limit():
    made = traded(max_position_notional=1_000.0, max_gross_notional=1_000.0)
    made.work(7.0)
    verdict = made.judge(5.0)
    assert (verdict.outcome, verdict.quantity) == (CLIP, 3.0)
    assert set(verdict.broken) == {"position_limit", "gross_exposure"}
    assert result(verdict, "position_limit").value == 1_200.0

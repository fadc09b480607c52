"""Overload sheds superseded ticks first, and never a symbol's newest that still has time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gateway import load_shedding as triaging
from trading.decision.schema import REASONS, Reason

MS = 1_000_000


def triage(symbols, left_ns, reserve_ns, shed_below_ns):
    codes = triaging.triage(symbols, np.array(left_ns, np.int64), reserve_ns, shed_below_ns)
    return [None if code < 0 else REASONS[code] for code in codes]


def test_with_time_left_every_tick_is_decided():
    assert triage("AAB", [26 * MS] * 3, 5 * MS, 25 * MS) == [None] * 3


def test_short_of_time_only_the_newest_of_each_symbol_is():
    found = triage("ABABA", [20 * MS] * 5, 5 * MS, 25 * MS)
    assert found == [Reason.SUPERSEDED, Reason.SUPERSEDED, Reason.SUPERSEDED, None, None]


def test_a_tick_that_has_waited_less_is_not_shed_for_the_others():
    assert triage("AA", [20 * MS, 40 * MS], 5 * MS, 25 * MS) == [Reason.SUPERSEDED, None]


def test_what_is_left_must_exceed_the_reserve():
    assert triage("AB", [5 * MS, 5 * MS + 1], 5 * MS, 0) == [Reason.DEADLINE, None]


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(-50, 50)), max_size=30))
def test_a_newest_tick_with_time_left_is_always_decided(rows):
    stream = [symbol for symbol, _ in rows]
    left = [ms * MS for _, ms in rows]
    found = triage(stream, left, 5 * MS, 25 * MS)
    newest = {symbol: k for k, symbol in enumerate(stream)}
    for k, reason in enumerate(found):
        if left[k] <= 5 * MS:
            assert reason is Reason.DEADLINE
        elif newest[stream[k]] == k or left[k] >= 25 * MS:
            assert reason is None
        else:
            assert reason is Reason.SUPERSEDED

"""The benchmark's sums: what was sent joined with what was seen, from the intended time."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.load import compare, place_of

MS = 1_000_000
START = 1_700_000_000_000 * MS


def sides():
    intended = START + np.arange(1000) * MS
    sent = {
        "lag_ms": np.array([0.1, 0.2]), "intended_0": intended, "base_0": np.int64(50),
        "intended_1": np.zeros(0, np.int64), "base_1": np.int64(7),
    }  # fmt: skip
    seen = {
        "offset_0": np.arange(50, 1050), "visible_0": intended + 5 * MS,
        "late": np.int64(10), "superseded": np.int64(0), "bytes": np.int64(900_000), "count": np.int64(1000),
    }  # fmt: skip
    return sent, seen


def test_latency_counts_from_the_intended_time():
    found = compare(*sides(), warm_up_s=0.0)
    assert (found.ticks, found.missing, found.repeated) == (1000, 0, 0)
    assert (found.p50_ms, found.p99_ms, found.max_ms) == (5.0, 5.0, 5.0)
    assert found.offered_per_s == pytest.approx(1000.0, rel=0.01)
    assert (found.late_share, found.bytes_a_decision) == (0.01, 900.0)


def test_the_first_sight_counts_and_repeats_and_gaps_are_told():
    sent, seen = sides()
    seen["offset_0"] = np.concatenate([seen["offset_0"][:-3], [50, 51]])
    seen["visible_0"] = np.concatenate([seen["visible_0"][:-3], [START + 500 * MS] * 2])
    found = compare(sent, seen, warm_up_s=0.0)
    assert (found.missing, found.repeated) == (3, 2)
    assert found.max_ms == 5.0


def test_what_was_meant_for_the_warm_up_is_left_out():
    sent, seen = sides()
    seen["visible_0"][:500] += 90 * MS
    assert compare(sent, seen, warm_up_s=0.5).max_ms == 5.0
    assert compare(sent, seen, warm_up_s=0.0).max_ms == 95.0


def test_the_place_is_read_from_the_beginning_of_a_decision():
    assert place_of(b'{"decision_id":"market.ticks-3-4711","symbol":"A"}') == (3, 4711)

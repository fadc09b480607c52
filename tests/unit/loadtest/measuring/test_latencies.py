"""Nothing of a tail is lost on the way: histograms, counts over time, joining, merging."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.closed_loop.correction import GrowingCells, Watch
from loadtest.judging.gates import judge
from loadtest.judging.targets import Target
from loadtest.measuring.latencies import BUCKETS, MAX_CELLS, Histogram, SeriesBuilder, bucket_of, quantile_ms
from loadtest.open_loop.join import join
from loadtest.open_loop.reader import ROW, Rows, row_of
from tests.unit.loadtest.results import MS, S, result_of
from trading.decision.schema import CODES, Reason


@given(st.lists(st.floats(0.02, 5e4), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_quantiles_of_buckets_are_within_a_percent(values_ms, q):
    counts = np.bincount(bucket_of(np.array(values_ms) * 1e3), minlength=BUCKETS)
    exact = np.sort(values_ms)[max(0, int(np.ceil(q * len(values_ms))) - 1)]
    assert quantile_ms(counts, q)[0] == pytest.approx(exact, rel=0.0101)


def test_quantiles_of_nothing_are_not_numbers():
    assert np.isnan(quantile_ms(np.zeros(BUCKETS), (0.5, 0.99))).all()
    assert np.isnan(Histogram().percentile_ms(50))


def test_a_histogram_survives_encoding_and_merging():
    one, other = Histogram(), Histogram()
    one.add(np.array([1, 2, 3]) * MS)
    other.add(np.array([100, 200]) * MS)
    again = Histogram(one.encode())
    again.merge(other.encode())
    assert again.summary().count == 5
    assert again.percentile_ms(100) == pytest.approx(200, rel=0.002)
    assert again.percentile_ms(50) == pytest.approx(3, rel=0.002)


def test_what_takes_longer_than_ten_minutes_is_counted_at_ten_minutes():
    made = Histogram()
    made.add(np.array([3600 * S, -5]))
    assert made.summary().count == 2
    assert made.summary().max == pytest.approx(600_000, rel=0.002)


def test_memory_does_not_grow_with_the_run():
    short, long = SeriesBuilder(60.0), SeriesBuilder(8 * 3600.0)
    assert (short.cells, short.cell_s) == (60, 1.0)
    assert long.cells <= MAX_CELLS
    assert long.cell_s == 48.0
    assert long.cells * long.cell_s >= 8 * 3600


def test_cells_hold_what_was_meant_for_them():
    series = result_of(np.r_[np.full(300, 5.0), np.full(100, 50.0)], rate=100).series
    assert [sum(c.counts) for c in series.cells] == [100, 100, 100, 100]
    p50 = quantile_ms(series.matrix(), 0.5)[:, 0]
    assert p50 == pytest.approx([5, 5, 5, 50], rel=0.011)


def payload(partition, offset, reason=Reason.TARGET):
    text = f'{{"decision_id":"market.ticks-{partition}-{offset}","symbol":"A","reason":"{reason.value}","x":"superseded"}}'
    return text.encode()


def test_a_decision_is_read_without_decoding_it():
    assert row_of(payload(3, 4711), 99) == (3, CODES[Reason.TARGET], 4711, 99, len(payload(3, 4711)))
    assert row_of(payload(3, 1, Reason.SUPERSEDED), 0)[1] == CODES[Reason.SUPERSEDED]
    assert row_of(b'{"decision_id":"a-1-2","reason":"new_reason"}', 0)[1] == -1
    assert row_of(b"rubbish", 0) is None
    assert row_of(b"", 0) is None


class Message:
    """As the client library gives it."""

    def __init__(self, payload):
        self.payload = payload

    def value(self):
        return self.payload

    def error(self):
        return None

    def topic(self):
        return "trading.decisions"

    def partition(self):
        return 0


def test_the_reader_waits_for_every_tick_in_whatever_order_and_for_no_other(tmp_path):
    with (tmp_path / "seen.bin").open("wb") as file:
        rows = Rows(file, {0: 50, 1: 7})
        assert rows.add([Message(payload(0, 51)), Message(payload(0, 49)), Message(b"rubbish")], 1)
        rows.ends = {0: 53}
        assert rows.add([Message(payload(0, 52))], 2)
        assert not rows.complete
        assert not rows.add([Message(payload(0, 52)), Message(payload(0, 53)), Message(payload(1, 7))], 3)
        assert rows.add([Message(payload(0, 50))], 4)
        assert rows.complete
        rows.write()
    assert np.fromfile(tmp_path / "seen.bin", ROW)["offset"].tolist() == [51, 49, 52, 52, 53, 7, 50]


def write_sides(folder, seen):
    """Two partitions: 1,000 ticks a millisecond apart in 0 from offset 50, none in 1."""
    intended = np.arange(1000) * MS + 10 * S
    np.stack([intended, intended + MS // 10], axis=1).astype(np.int64).tofile(folder / "sent_0.bin")
    (folder / "sent_1.bin").write_bytes(b"")
    np.array(seen, ROW).tofile(folder / "seen.bin")
    return {"start_ns": 10 * S, "bases": json.loads('{"0": 50, "1": 7}')}


def row(number, took_ms=5, reason=Reason.TARGET, base=50):
    return (0, CODES[reason], base + number, 10 * S + number * MS + int(took_ms * MS), 900)


def test_both_sides_are_joined_by_offset(tmp_path):
    sent = write_sides(
        tmp_path, [row(k, reason=Reason.SUPERSEDED if k < 10 else Reason.TARGET) for k in range(1000)]
    )
    found = join(tmp_path, sent, 0.0)
    assert (found.tally.planned, found.tally.answered, found.repeated, found.undecided) == (
        1000,
        1000,
        0,
        {"superseded": 10},
    )
    made = found.tally.result(target="t", settings={}, started_at="", warm_up_s=0.0, sent=1000, missing=0)
    assert made.latency.p50 == pytest.approx(5, rel=0.002)
    assert made.service.p50 == pytest.approx(4.9, rel=0.002)
    assert made.lag.max == pytest.approx(0.1, rel=0.002)
    assert found.bytes_an_answer == 900


def test_the_first_sight_counts_and_what_is_missing_or_came_again_is_told(tmp_path):
    seen = [row(k) for k in range(997)] + [row(0, 400), row(1, 400), row(1, 500), row(-20), row(5000)]
    found = join(tmp_path, write_sides(tmp_path, seen), 0.0)
    assert (found.tally.planned - found.tally.answered, found.repeated) == (3, 3)
    made = found.tally.result(target="t", settings={}, started_at="", warm_up_s=0.0, sent=1000, missing=3)
    assert made.latency.max == pytest.approx(5, rel=0.002)


def test_repeats_are_seen_across_the_pieces_in_which_a_long_run_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("loadtest.open_loop.join.CHUNK", 100)
    seen = [row(k) for k in range(1000)] + [row(3)] * 2
    found = join(tmp_path, write_sides(tmp_path, seen), 0.0)
    assert (found.tally.answered, found.repeated) == (1000, 2)


def test_what_was_meant_for_the_warm_up_is_left_out_of_every_count(tmp_path):
    seen = [row(k, 90 if k < 500 else 5, Reason.DEADLINE if k < 500 else Reason.TARGET) for k in range(10, 1000)]
    found = join(tmp_path, write_sides(tmp_path, [*seen, row(20), row(800)]), 0.5)
    assert (found.tally.planned, found.tally.answered, found.repeated, found.undecided) == (500, 500, 1, {})


def watched(latencies_ms, gap_ms=10.0, error=""):
    made = Watch()
    for k, ms in enumerate(latencies_ms):
        made.add("grpc", int(ms * MS), int(gap_ms * MS), 0, k * gap_ms / 1e3, error if k % 10 == 9 else "")
    return made


def test_a_closed_loop_is_corrected_by_the_gap_it_meant_to_keep():
    found = watched([2.0] * 989 + [500.0]).result("grpc", started_at="", warm_up_s=0.0, settings={})
    assert found.service.count == 990
    assert found.latency.count == 990 + 49
    assert found.service.p99 == pytest.approx(2, rel=0.01)
    assert found.latency.p99 > 300


@pytest.mark.parametrize("ms", [11.0, 15.0, 19.0, 29.0, 95.0])
def test_a_correction_never_makes_a_slow_server_look_quicker(ms):
    found = watched([ms] * 500).result("grpc", started_at="", warm_up_s=0.0, settings={})
    assert found.latency.p50 >= found.service.p50 == pytest.approx(ms, rel=0.01)
    assert found.latency.p99 >= found.service.p99


def test_a_call_that_failed_late_stands_for_all_that_it_held_back():
    made = watched([3.0] * 1200)
    made.add("grpc", 5 * S, 10 * MS, 0, 12.0, "timed out")
    found = made.result("grpc", started_at="", warm_up_s=0.0, settings={})
    assert found.errors == {"timed out": 500}
    assert found.error_ratio > 0.25


def test_without_a_gap_nothing_is_corrected_and_failures_alone_have_a_length():
    made = Watch()
    made.add("x", 50 * MS, 0, 0, 0.0, "")
    assert made.result("x", started_at="", warm_up_s=0.0, settings={}).latency.count == 1
    failing = Watch()
    for k in range(100):
        failing.add("x", MS, 0, 0, k / 10, "no")
    assert failing.result("x", started_at="", warm_up_s=0.0, settings={}).offered_per_s == 10.0


def test_users_that_ask_late_have_a_lag():
    made = Watch()
    for k in range(100):
        made.add("x", MS, 10 * MS, 80 * MS, k / 100, "")
    found = judge(made.result("x", started_at="", warm_up_s=0.0, settings={}), Target(max_lag_ms=25))
    assert (found.verdict, found.checks[1].name) == ("invalid", "generator lag p99")


def test_a_locust_without_an_end_keeps_no_second_apart():
    made = Watch()
    for second in range(1000):
        made.add("x", MS, 0, 0, float(second), "")
    assert len(made._kinds["x"].cells) <= 61


def test_what_workers_report_adds_up_to_what_one_would_have_seen():
    generator = np.random.default_rng(5)
    latencies = generator.lognormal(1, 1, 600).clip(0.1, 9.9)
    whole, master = watched(latencies, error="no"), Watch()
    for part in (latencies[:300], latencies[300:]):
        worker = watched(part, error="no")
        master.merge(json.loads(json.dumps(worker.take())))
        assert worker.take() == {}
    a = whole.result("grpc", started_at="", warm_up_s=0.0, settings={})
    b = master.result("grpc", started_at="", warm_up_s=0.0, settings={})
    assert (a.planned, a.answered, a.errors) == (b.planned, b.answered, b.errors) == (600, 540, {"no": 60})
    assert (a.latency.p99, a.latency.count) == (b.latency.p99, b.latency.count)
    assert a.error_ratio == 0.1
    assert b.series.matrix().sum() == 540


def test_many_different_errors_are_kept_together():
    made = Watch()
    for k in range(100):
        made.add("x", MS, MS, 0, 0.0, f"error {k}")
    errors = made.result("x", started_at="", warm_up_s=0.0, settings={}).errors
    assert (len(errors), sum(errors.values()), errors["others"]) == (21, 100, 80)


def test_cells_of_a_run_without_an_end_grow_no_further():
    made = GrowingCells()
    for second in range(5000):
        made.add(second, {3: 2})
    series = made.series()
    assert len(series.cells) <= MAX_CELLS
    assert series.cell_s == 16.0
    assert sum(sum(c.counts) for c in series.cells) == 10_000

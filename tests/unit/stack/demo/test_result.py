"""What a demo says agrees with what it draws, and its limits with its source."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from msgspec import structs

from loadtest.open_loop.replay import Replayed
from stack.demo.report import by_second, kept, latency_figure, mean, symbol_figure
from stack.demo.result import headroom_path, smallest_headroom
from stack.demo.run import LIMITS, find_rate, fitted_limits, increment, open_demo_source, run_of
from tests.unit.gateway.test_pipeline import Bench, quotes
from trading.decision.wire import place
from trading.encoding import encode
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.features.definitions import WARM_TICKS
from trading.history.source import Record
from trading.risk import limits_file
from trading.risk.verdict import RuleResult


@pytest.fixture(scope="module")
def decisions():
    return Bench([quotes(WARM_TICKS + 600)]).run()


def judged(*headrooms):
    """A decision whose rules left so much of a limit of 10 each."""
    results = [RuleResult(f"rule{k}", h >= 0, 10.0 - h, 10.0, h) for k, h in enumerate(headrooms)]
    return SimpleNamespace(verdict=SimpleNamespace(results=results))


def test_the_text_is_the_lowest_point_of_the_plot():
    run = [judged(5.0, 2.0), SimpleNamespace(verdict=None), judged(-4.0, 3.0), judged(1.0, 9.0)]
    told = smallest_headroom(run)
    assert list(told.items()) == [("rule0", -0.4), ("rule1", 0.2)]
    drawn = headroom_path(run, 4)
    assert told == {rule: np.nanmin(path) for rule, path in drawn.items()}
    assert np.isnan(drawn["rule0"][1])


@pytest.mark.parametrize(
    ("prices", "usual", "expected"),
    [
        ([61500.1, 61500.2], 0.1, 0.1),
        ([61500.01, 61500.2], 0.1, 0.01),
        ([1.38573, 1.3858], 0.1, 0.00001),
        ([61500.0, 61600.0], 0.1, 0.1),
        ([], 0.1, 0.1),
        ([3.14159], 0.0, 0.0),
    ],
)
def test_an_increment_is_the_usual_one_unless_the_prices_are_finer(prices, usual, expected):
    assert increment(prices, usual) == expected


def test_limits_fit_the_source_and_are_the_demos_own_otherwise(tmp_path):
    ticks = quotes(5, symbol="BTCUSDT", price=61500.02)
    source = SimpleNamespace(records=lambda: iter([Record(tick.event_time_ns, tick) for tick in ticks]))
    found, usual = limits_file.read(fitted_limits(source, tmp_path)), limits_file.read(LIMITS)
    assert found.symbols["BTCUSDT"] == {**usual.symbols["BTCUSDT"], "price_increment": 0.01}
    assert found.symbols["ETHUSDT"] == usual.symbols["ETHUSDT"]
    assert found.defaults == usual.defaults


def test_every_part_of_a_long_run_is_drawn_from_all_its_decisions(decisions):
    figure = symbol_figure("A", decisions)
    price, regimes = figure.axes[:2]
    (line,) = price.get_lines()
    assert 100 < len(line.get_xdata()) <= 250
    assert np.nanmax(line.get_ydata()) == pytest.approx(100.0)
    assert regimes.get_ylim() == (0, 1)
    assert mean([[], [0.25, 0.75], [0.75, 0.25]]) == [0.5, 0.5]
    assert mean([[], []]) == []


def test_a_year_without_decisions_is_refused_before_anything_is_started():
    market = "simulate:calm?ticks=9000"
    assert open_demo_source(market, None, 2024)
    with pytest.raises(
        ConfigurationError, match=r"--year 1999: simulate:calm\?ticks=9000 has ticks of 2024 to 2024"
    ):
        open_demo_source(market, None, 1999)


def test_each_second_has_its_own_percentiles():
    seconds, ms = np.array([0.1, 0.9, 2.5]), np.array([10.0, 30.0, 7.0])
    found = {label: values.tolist() for label, _, values in by_second(seconds, ms)}
    assert found["worst"][::2] == [30.0, 7.0]
    assert found["p50"][::2] == [20.0, 7.0]
    assert all(np.isnan(values[1]) for values in found.values())


def test_one_tick_is_measured_and_none_that_came_is_no_percentile():
    now_ns = 1_732_000_000_123_456_789
    run = run_of(Replayed({(0, 0): now_ns}, [], [], 0.0), 10.0)
    assert (run.warm_up_s, run.late, run.counts.missing, run.per_s) == (0.0, 0.0, 1, 0.0)
    assert (
        len(latency_figure(structs.replace(run, seconds=np.array([0.0]), latencies_ms=np.array([5.0]))).axes) == 2
    )


def test_the_warm_up_is_not_counted_and_a_third_of_a_short_run_at_most(decisions):
    payloads = [encode(d) for d in decisions[:9]]
    meant = [10**18 + k * 10**9 for k in range(9)]
    seen = [ns + (k + 1) * 10**6 for k, ns in enumerate(meant)]
    places = [place(d.decision_id) for d in decisions[:9]]
    replayed = Replayed(dict(zip(places, meant, strict=True)), payloads, seen, 1.0)
    run = run_of(replayed, 2.0)
    assert (run.warm_up_s, run.counts.missing, run.per_s) == (2.0, 0, 1.0)
    assert run.latencies_ms.tolist() == pytest.approx(range(1, 10), abs=0.01)
    assert run.histogram.get_total_count() == 7
    assert run_of(replayed, 60.0).warm_up_s == pytest.approx(8 / 3)


@pytest.mark.parametrize(("keeps", "expected"), [(1000.0, 1000.0), (999.0, 500.0), (300.0, 250.0), (100.0, 0.0)])
def test_the_rate_that_is_kept_is_looked_for_below_the_one_that_failed(keeps, expected):
    tried = []

    def attempt(rate):
        tried.append(rate)
        return SimpleNamespace(late=0.0 if rate <= keeps else 0.5, counts=SimpleNamespace(missing=0))

    assert find_rate(2000.0, attempt) == expected
    assert tried == [500.0, 1000.0 if keeps >= 500.0 else 250.0]


def test_a_rate_at_which_decisions_are_missing_is_not_kept():
    assert find_rate(8.0, lambda _: SimpleNamespace(late=0.0, counts=SimpleNamespace(missing=1))) == 0.0


def test_a_try_that_fails_leaves_the_run_as_it_is():
    def attempt(_):
        raise ServiceUnavailable("the gateway failed")

    assert find_rate(2000.0, attempt) is None
    assert "could not be measured" in kept(None)


@pytest.mark.parametrize(("late", "expected"), [(0.0, 500.0), (0.5, None)])
def test_what_was_measured_counts_though_the_next_try_fails(late, expected):
    tried = []

    def attempt(rate):
        tried.append(rate)
        if len(tried) > 1:
            raise ServiceUnavailable("nothing came for 15 s")
        return SimpleNamespace(late=late, counts=SimpleNamespace(missing=0))

    assert find_rate(2000.0, attempt) == expected

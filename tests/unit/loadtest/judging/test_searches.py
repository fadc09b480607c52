"""Limits are found, differences are told from noise, and growth from wobble."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec import structs

from loadtest.errors import InvalidRun
from loadtest.judging.capacity import Trial, knee_of, search
from loadtest.judging.compare import block_length, compare, draw, least_shown, mean_ratio
from loadtest.judging.drift import growth_of, judge_drift, judged_for_drift
from loadtest.judging.gates import judge
from loadtest.judging.targets import Target
from loadtest.measuring.result import ServerSamples
from tests.unit.loadtest.results import result_of
from trading.errors import ConfigurationError

TARGET = Target(p99_ms=20, max_error_ratio=0.01, min_samples=10, max_lag_ms=5)


class Desk:
    """Latency of one queue: service over one minus load; invalid where the generator cannot keep up."""

    def __init__(self, limit, generator=1e9, moods=()):
        self.limit, self.generator, self.moods = limit, generator, list(moods)
        self.asked = []

    def run(self, rate):
        self.asked.append(rate)
        load = rate / self.limit
        p99 = 2.0 / (1.0 - load) if load < 0.9999 else 1e4
        bad_mood = self.moods.pop(0) if self.moods else False
        return judge(
            result_of(np.full(200, 100.0 if bad_mood else p99), lag_ms=50 if rate > self.generator else 0.1), TARGET
        )


def test_the_limit_is_found_within_the_precision_and_confirmed():
    """2 ms / (1 - x) reaches 20 ms at x = 0.9."""
    desk = Desk(10_000)
    found = search(desk.run, low=100, high=100_000, precision=0.05, confirmations=2)
    assert 9_000 / 1.05 <= found.limit <= 9_000
    assert found.bound == "gate"
    assert desk.asked[-2:] == [found.limit, found.limit]
    assert [t.rate for t in found.trials] == desk.asked
    assert found.knee is not None
    assert 3_000 < found.knee < 9_000


def test_a_limit_that_does_not_hold_again_is_lowered():
    desk = Desk(1e9, moods=[False, False, False, True])
    found = search(desk.run, low=100, high=400, confirmations=1)
    assert desk.asked == [100, 200, 400, 400, 200]
    assert (found.limit, found.bound) == (200, "gate")


def test_the_search_ends_where_nobody_asks_further_and_where_the_generator_ends():
    asked = search(Desk(1e9).run, low=100, high=1000, confirmations=1)
    assert (asked.limit, asked.bound, asked.knee) == (1000, "asked", None)
    ended = search(Desk(1e9, generator=700).run, low=100, high=10_000, precision=0.05, confirmations=0)
    assert ended.bound == "generator"
    assert 700 / 1.05 <= ended.limit <= 700


def test_too_few_samples_are_not_called_a_slow_generator():
    few = Target(p99_ms=20, min_samples=10_000)
    found = search(lambda rate: judge(result_of(np.full(200, 1.0)), few), low=100, high=1000)
    assert (found.limit, found.bound) == (0.0, "samples")


def test_a_desk_that_holds_nothing_has_no_limit():
    found = search(Desk(10).run, low=100, high=1000)
    assert (found.limit, len(found.trials), found.bound) == (0.0, 1, "gate")


def test_an_empty_range_is_refused():
    with pytest.raises(ConfigurationError, match="from 5/s to 5/s"):
        search(Desk(10).run, low=5, high=5)


def trials(rates, p99):
    return [Trial(r, r, 1.0, p, "held", []) for r, p in zip(rates, p99, strict=True)]


def test_the_knee_is_where_latency_turns_up():
    assert knee_of(trials([1, 2, 3, 4, 5, 6], [5, 5, 5, 5, 20, 80])) == 4
    assert knee_of(trials([1, 2, 3, 4, 5], [5, 5.1, 5.0, 5.2, 5.1])) is None
    assert knee_of(trials([1, 2, 3], [1, 10, 100])) is None


def autocorrelated(seed, factor, seconds=60, rate=100):
    """Latencies whose level wanders from second to second, as a shared machine's does."""
    generator = np.random.default_rng(seed)
    level = np.zeros(seconds)
    for k in range(1, seconds):
        level[k] = 0.7 * level[k - 1] + generator.normal(0, 0.15)
    own = generator.normal(0, 0.5, (seconds, rate))
    return result_of(factor * 5.0 * np.exp(level[:, None] + own).ravel(), rate=rate)


def test_a_ratio_lies_in_its_interval_about_as_often_as_promised():
    hits = {"p50, ms": 0, "p95, ms": 0}
    for seed in range(24):
        found = {
            r.figure: r
            for r in compare(
                [autocorrelated(2 * seed, 1.0, 120)], [autocorrelated(2 * seed + 1, 1.3, 120)], resamples=200
            )
        }
        for figure in hits:
            hits[figure] += found[figure].low <= 1.3 <= found[figure].high
            assert found[figure].low < found[figure].ratio < found[figure].high
    # 95 % are promised; with two minutes of autocorrelated seconds a block bootstrap keeps somewhat less.
    assert min(hits.values()) >= 20


def test_blocks_are_longer_where_neighbours_are_alike():
    generator = np.random.default_rng(2)
    white = generator.normal(size=300)
    wandering = np.convolve(white, np.ones(12), "same")
    assert block_length(white) <= 5
    assert 10 < block_length(wandering) <= 60
    assert block_length(np.ones(50)) == 1


def test_equal_sides_show_no_difference_and_a_large_one_is_shown_with_its_direction():
    runs = [autocorrelated(k, 1.0) for k in range(8)]
    same = {r.figure: r for r in compare(runs[:4], runs[4:], resamples=300)}
    assert same["p50, ms"].verdict == "no difference shown"
    slower = [autocorrelated(k, 2.0) for k in range(10, 14)]
    assert compare(runs[:4], slower, resamples=300)[0].verdict == "B is higher"
    assert compare(slower, runs[:4], resamples=300)[0].verdict == "B is lower"


def test_blocks_go_round_and_keep_their_length():
    weights = draw(27, 3, 500, np.random.default_rng(0))
    assert (weights.sum(axis=1) == 27).all()
    assert weights.mean(axis=0) == pytest.approx(1.0, abs=0.15)


def test_too_short_or_dead_runs_are_not_compared():
    good = result_of(np.full(3000, 1.0))
    with pytest.raises(InvalidRun, match="A has 3 seconds"):
        compare([result_of(np.full(300, 1.0))], [good])
    with pytest.raises(InvalidRun, match="B has a run without any answer"):
        compare([good], [result_of(np.full(3000, 1.0), lost=3000)])


def turns_of_one_system(seed, turns=5, sd=0.05):
    """Runs of ten seconds that differ as wholes, as runs on a shared machine do."""
    generator = np.random.default_rng(seed)
    return [
        result_of(np.exp(generator.normal(0, sd)) * generator.lognormal(1.5, 0.4, 1000), rate=100)
        for _ in range(turns)
    ]


@pytest.mark.slow
def test_one_system_against_itself_is_seldom_called_different():
    """Resampling seconds alone would call a quarter of these different: runs differ as wholes too."""
    different = sum(
        compare(turns_of_one_system(2 * k), turns_of_one_system(2 * k + 1), resamples=200)[0].verdict
        != "no difference shown"
        for k in range(24)
    )
    assert different <= 3


def test_what_turns_can_show_is_what_their_own_interval_leaves():
    spread = 0.05
    for turns in (2, 3, 5, 10):
        noise = np.linspace(-1.0, 1.0, turns)
        noise *= spread / noise.std(ddof=1)
        ratio = least_shown(turns, spread)
        _, low, _ = mean_ratio(np.exp(noise + np.log(ratio)))
        assert low == pytest.approx(1.0)
    assert least_shown(1, spread) == np.inf
    assert least_shown(5, spread) < least_shown(3, spread) < least_shown(3, 2 * spread)


def test_a_real_difference_is_shown_in_spite_of_that():
    slower = [structs.replace(r) for r in turns_of_one_system(1)]
    quick = [result_of(np.full(1000, 2.0) * np.exp(0.02 * k), rate=100) for k in range(5)]
    assert compare(slower, quick, resamples=200)[0].verdict == "B is lower"


def memory(values):
    return ServerSamples("gateway", list(range(len(values))), [0.0] * len(values), list(values))


def test_a_steady_run_does_not_grow_and_a_leak_does():
    generator = np.random.default_rng(1)
    wobble = generator.normal(0, 1.0, 400)
    steady = structs.replace(result_of(np.full(40_000, 5.0)), servers=[memory(200 + wobble)])
    assert judge_drift(judge(steady, TARGET)).verdict == "held"
    leak = structs.replace(steady, servers=[memory(200 + wobble + np.arange(400) * 0.1)])
    found = judge_drift(judge(leak, Target(min_samples=1)))
    assert (found.verdict, [c.name for c in found.checks if c.verdict != "held"]) == (
        "missed", ["memory of gateway: growth over the run"],
    )  # fmt: skip
    assert found.checks[-1].measured == pytest.approx(100 * 30 / 225, rel=0.1)


def test_what_fills_in_the_beginning_is_no_leak():
    filled = np.r_[np.linspace(50, 200, 100), np.full(300, 200.0)]
    run = structs.replace(result_of(np.full(40_000, 5.0)), servers=[memory(filled)])
    assert judge_drift(run).verdict == "held"


def test_a_process_that_is_not_seen_to_the_end_is_not_called_steady():
    run = structs.replace(result_of(np.full(40_000, 5.0)), servers=[memory(np.full(200, 100.0))])
    assert [c.verdict for c in judge_drift(run).checks] == ["held", "held", "invalid"]
    alone = judge_drift(structs.replace(run, servers=[]), ["gateway", "kafka-1", "triton"])
    assert [c.name for c in alone.checks if c.verdict == "invalid"] == [
        "memory of gateway: growth over the run", "memory of triton: growth over the run",
    ]  # fmt: skip


def test_latency_that_climbs_is_drift_and_one_stall_is_not():
    climbing = judge_drift(result_of(np.linspace(5, 8, 6000)))
    assert [c.name for c in climbing.checks if c.verdict == "missed"] == [
        "p50: growth over the run", "p99: growth over the run",
    ]  # fmt: skip
    stalled = np.full(6000, 5.0)
    stalled[3000:3100] = 800
    assert judge_drift(result_of(stalled)).verdict == "held"


def test_too_short_or_restless_a_soak_proves_nothing():
    assert judge_drift(result_of(np.full(300, 5.0))).verdict == "invalid"
    restless = np.random.default_rng(3).lognormal(1.5, 1.0, 1000).repeat(10)
    assert judge_drift(result_of(restless[:1200])).verdict == "invalid"
    assert np.isnan(growth_of(np.ones(5))).all()
    assert growth_of(np.linspace(1, 2, 40))[0] == pytest.approx(100 / 1.5, rel=0.02)


def test_judging_growth_twice_changes_nothing():
    once = judge_drift(judge(result_of(np.full(6000, 5.0)), TARGET))
    assert judged_for_drift(once)
    assert judge_drift(once) == once
    assert not judged_for_drift(judge(once, TARGET))

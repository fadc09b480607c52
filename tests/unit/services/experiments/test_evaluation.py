"""From blocks to a verdict: what is too little never passes, harm is told, and a person understands it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec import structs

from services.experiments.arm_book import ArmOutcome
from services.experiments.block_series import BlockSeries
from services.experiments.evaluation import evaluate
from services.experiments.partition_shadow import BlockOutcome
from services.experiments.statistics.verdict import Verdict
from trading.experiments.definition import (
    AtLeast,
    Challenger,
    ExperimentDefinition,
    GuardedMetric,
    PrimaryMetric,
    ServedModel,
)

CAPITAL = 1e6
TWO = ExperimentDefinition(
    1, "one", ServedModel("m", 1), (Challenger("good", "m", 2), Challenger("bad", "m", 3)), PrimaryMetric(0.2),
    block="1m", planned_blocks=400,
    guardrails=(GuardedMetric("denial_rate", 0.1, 0.9), GuardedMetric("drawdown", 300.0)),
)  # fmt: skip
UNGUARDED = structs.replace(TWO, guardrails=())


def arm(net_bps, **more):
    return ArmOutcome(100, 100, orders=10, profit=net_bps * 1e-4 * CAPITAL, **more)


def series_of(*arms, partitions=1, begin=1000):
    """Arms' net basis points by block, of one partition; the others stand still."""
    found = BlockSeries(TWO.arms, partitions)
    for k, net in enumerate(zip(*arms, strict=True)):
        found.add(BlockOutcome(0, begin + k, CAPITAL / partitions, tuple(arm(float(one)) for one in net)))
    found.end(2**60)
    return found


def noise(seed, n=1000):
    return np.random.default_rng(seed).standard_normal(n)


def test_each_challenger_has_its_verdict():
    market = 3.0 * noise(1)
    found = evaluate(UNGUARDED, series_of(market, market + noise(2) + 0.5, market + noise(3) - 0.5))
    good, bad = found.challengers
    assert (good.verdict, bad.verdict) == (Verdict.BETTER, Verdict.WORSE)
    assert good.sentence.startswith("good is better than the champion: its difference is between +0.3")
    assert bad.sentence.startswith("bad is worse than the champion: its difference is between -0.")
    assert "over 1,000 blocks of 1m, after costs" in good.sentence
    assert (good.blocks_left, bad.blocks_left, found.is_decided) == (0, 0, True)
    assert (found.blocks, found.first_ns, found.end_ns) == (1000, 1000 * 60 * 10**9, 2000 * 60 * 10**9)
    assert found.champion_bps == pytest.approx(market.sum())
    assert good.looks[-1] == good.interval
    assert 50 <= len(good.looks) <= 100


def test_what_makes_no_difference_is_equal():
    market = noise(1, 3000)
    small = TWO.primary.effect * 0.1
    found = evaluate(UNGUARDED, series_of(market, market + small * noise(2, 3000), market + 9.0 * noise(4, 3000)))
    assert [one.verdict for one in found.challengers] == [Verdict.EQUAL, Verdict.UNDECIDED]
    assert found.challengers[0].sentence.startswith("good earns what the champion earns: any difference is between")
    assert "if blocks go on like these" in found.challengers[1].sentence
    assert found.challengers[1].blocks_left > 0
    assert not found.is_decided


@pytest.mark.parametrize("n", [0, 1, 99])
def test_too_little_never_passes(n):
    found = evaluate(TWO, series_of(np.zeros(n), noise(1, n) + 100.0, noise(2, n) - 100.0))
    assert {one.verdict for one in found.challengers} == {Verdict.UNDECIDED}
    assert found.challengers[0].sentence.startswith(f"nothing can be said of good yet: {n} blocks of 1m have ended")
    assert found.challengers[0].blocks_left is None


def test_less_time_than_was_asked_for_never_passes():
    slow = structs.replace(TWO, at_least=AtLeast(100, "2d"))
    better = evaluate(slow, series_of(np.zeros(1000), noise(1) + 5.0, noise(2))).challengers[0]
    assert better.verdict is Verdict.UNDECIDED
    # Two days are 2,880 blocks.
    assert better.blocks_left == 1880
    assert "1,880 more (1.306d of ticks) may tell" in better.sentence


def test_a_position_that_cannot_be_valued_says_nothing():
    odd = noise(1) + 5.0
    odd[500] = math.nan
    found = evaluate(TWO, series_of(np.zeros(1000), odd, noise(2) + 5.0))
    assert [one.verdict for one in found.challengers] == [Verdict.UNDECIDED, Verdict.BETTER]
    # And it is harm: how far it has fallen is not known.
    assert [one.metric for one in found.challengers[0].breached] == ["drawdown"]
    assert found.challengers[0].sentence == "good does harm: in block 501 its drawdown cannot be told any more."


def test_a_block_in_which_the_champion_cannot_be_valued_accuses_nobody():
    odd = noise(1, 300)
    odd[50] = math.nan
    found = evaluate(TWO, series_of(odd, odd, odd - 5.0)).challengers
    assert found[0].breached == []
    assert found[0].sentence == (
        "nothing can be said of good: 1 of 300 blocks cannot be valued (a position's price, or its currency's rate, was "
        "not known then)."
    )
    # What does harm is told all the same, with its block's number.
    assert found[1].breached[0].breach.blocks > 51


def test_harm_that_never_varies_is_harm():
    """A challenger that is dead from the first block on: its differences are all alike."""
    dead = GuardedMetric("error_rate", 0.01)
    series = BlockSeries(TWO.arms, 1)
    for block in range(40):
        gone = ArmOutcome(100, 0, 100)
        series.add(BlockOutcome(0, block, CAPITAL, (arm(0.0), arm(0.0), gone)))
    series.end(99)
    good, bad = evaluate(structs.replace(TWO, guardrails=(dead,)), series).challengers
    assert good.breached == []
    assert bad.breached[0].breach.blocks == 20
    assert "its mean error_rate is 1 or more above the champion's, and 0.01 is allowed" in bad.sentence


def test_harm_comes_before_any_verdict():
    found = evaluate(TWO, series_of(np.zeros(200), np.linspace(0, 9, 200), np.full(200, -2.0)))
    bad = found.challengers[1]
    (breach,) = bad.breached
    assert (breach.metric, breach.breach.at_once, breach.breach.blocks) == ("drawdown", True, 151)
    assert bad.sentence == (
        "bad does harm: in block 151 its drawdown was 302 above the champion's, and 300 is allowed."
    )
    assert found.challengers[0].breached == []


def test_harm_by_its_mean_is_told_with_what_is_sure():
    series = BlockSeries(TWO.arms, 1)
    chance = np.random.default_rng(1)
    for block in range(100):
        denied = int(chance.integers(3, 7))
        series.add(BlockOutcome(0, block, CAPITAL, (arm(0.0), arm(0.0), arm(0.0, denied=denied))))
    series.end(200)
    good, bad = evaluate(TWO, series).challengers
    assert good.breached == []
    assert bad.sentence.startswith("bad does harm: over the first 20 blocks its mean denial_rate is 0.")
    assert bad.sentence.endswith("or more above the champion's, and 0.1 is allowed.")
    rail = bad.guarded[0]
    assert (rail.champion, rail.challenger) == (0.0, pytest.approx(0.45, abs=0.05))


def test_blocks_count_once_they_have_ended_everywhere():
    series = BlockSeries(TWO.arms, 2)
    three = (arm(1.0), arm(2.0), arm(3.0))
    for partition in (0, 1):
        for block in (5, 6):
            series.add(BlockOutcome(partition, block, CAPITAL / 2, three))
    assert series.end(4) == 0
    assert series.end(5) == 1
    assert series.end(5) == 1
    assert series.blocks.tolist() == [5]
    assert series.capital.tolist() == [CAPITAL]
    found = series.arms()
    assert found["bad"].rows.tolist() == [200.0]
    assert found["bad"].metrics(series.capital)["net_bps"].tolist() == pytest.approx([6.0])
    with pytest.raises(ValueError, match="block 5 has ended: 5 was the last"):
        series.add(BlockOutcome(0, 5, CAPITAL / 2, three))
    # A partition without a tick in a block has its share of the capital all the same.
    series.add(BlockOutcome(0, 7, CAPITAL / 2, three))
    series.end(7)
    assert series.capital.tolist() == [CAPITAL] * 3


def test_metrics_are_what_they_are_called():
    series = BlockSeries(TWO.arms, 1)
    one = ArmOutcome(100, 80, 20, 10, 4, 8, 5e5, 50.0, -100.0)
    for block, profit in enumerate((-100.0, 50.0, 200.0, -300.0)):
        series.add(BlockOutcome(0, block, CAPITAL, (structs.replace(one, profit=profit), arm(0.0), arm(0.0))))
    series.end(9)
    found = series.arms()["champion"].metrics(series.capital)
    assert found["denial_rate"].tolist() == [0.4] * 4
    assert found["error_rate"].tolist() == [0.2] * 4
    assert found["flip_rate"].tolist() == [0.1] * 4
    assert found["turnover"].tolist() == [0.5] * 4
    assert found["net_bps"].tolist() == pytest.approx([-1.0, 0.5, 2.0, -3.0])
    assert found["drawdown"].tolist() == pytest.approx([1.0, 0.5, 0.0, 3.0])
    assert set(found) >= {rail.metric for rail in TWO.guardrails}

"""What was promoted is taken back where it is known to be worse, and hardly ever where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from services.experiments.statistics.worse import (
    HIT_RATE,
    UTILITY,
    VOLATILITY,
    WorseRules,
    WorseWatch,
    gains,
    known_worse,
)

RULES = WorseRules()


def returns(blocks, seed, mean=1.0, deviation=1.0):
    return np.random.default_rng(seed).normal(mean, deviation, blocks)


def pair(blocks, seed, mean=1.0, deviation=1.0, skewed=False):
    """Net basis points of what decides now, and of the last good one, on the same blocks."""
    before = returns(blocks, seed)
    shared = before - 1.0
    now = mean + deviation * shared
    if skewed:
        # Some large gains, and more small losses: mean and deviation are borne, and two blocks in five gain.
        rng = np.random.default_rng(seed + 1)
        now = np.where(rng.random(blocks) < 0.38, 2.8, -0.1)
    return now, before


def test_what_is_as_good_is_let_be():
    for seed in range(12):
        assert known_worse(*pair(1_000, seed), RULES) is None
        # Within what is borne: a fifth less is no third.
        assert known_worse(*pair(1_000, seed, mean=0.9), RULES) is None
        assert known_worse(*pair(1_000, seed, deviation=1.2), RULES) is None


@pytest.mark.parametrize(
    ("changed", "what"),
    [({"mean": 0.2}, UTILITY), ({"mean": -1.0}, UTILITY), ({"deviation": 2.5}, VOLATILITY),
     ({"skewed": True}, HIT_RATE)],
)  # fmt: skip
def test_what_is_worse_is_named_with_its_figures(changed, what):
    for seed in range(10):
        found = known_worse(*pair(1_000, seed, **changed), RULES)
        assert found is not None
        assert found.what == what or (changed == {"mean": -1.0} and found.what == HIT_RATE)
        assert found.blocks <= 700
        assert (found.now > found.before) == (found.what == VOLATILITY)
        assert found.what in found.sentence
        assert f"{found.blocks:,} blocks" in found.sentence


def test_where_the_last_good_one_loses_too_only_a_larger_loss_is_worse():
    before = returns(1_000, 3, mean=-1.0)
    assert known_worse(before + 0.0, before, RULES) is None
    assert known_worse(before - 0.1, before, RULES) is None
    found = known_worse(before - 2.0, before, RULES)
    assert found is not None
    assert found.what in {UTILITY, HIT_RATE, VOLATILITY}


def test_what_earns_more_at_the_same_risk_is_not_wild():
    before = returns(1_000, 4)
    assert known_worse(before + 1.0, before, RULES) is None
    assert known_worse(before + 20.0, before, RULES) is None
    # Of a last good one that had nothing at stake nobody is a wilder version; one that loses is worse.
    flat, gaining = np.zeros(1_000), returns(1_000, 5, mean=1.0)
    assert known_worse(gaining, flat, RULES) is None
    found = known_worse(-gaining, flat, RULES)
    assert found is not None
    assert found.what in {UTILITY, HIT_RATE}


def test_looking_at_every_block_accuses_few_who_are_as_good():
    wrong = 0
    for seed in range(100):
        # At the very edge of what is borne.
        now, before = pair(600, 1_000 + seed, mean=0.7)
        wrong += known_worse(now, before, RULES) is not None
    assert wrong <= 0.05 * 100 + 4


def test_what_was_shown_stays_shown():
    now, before = pair(1_000, 5, mean=-0.5)
    first = known_worse(now[:400], before[:400], RULES)
    assert first is not None
    assert known_worse(now, before, RULES) == first
    # However often somebody has looked.
    watch, found = WorseWatch(RULES), None
    for blocks in range(0, 401, 7):
        found = found or watch.look(now[:blocks], before[:blocks])
    assert found == first


def test_what_was_better_for_long_and_is_worse_now_is_found_soon():
    for seed in range(5):
        good, bad = pair(1_500, seed, mean=1.5), pair(500, 50 + seed, mean=-0.5)
        now, before = (np.concatenate([one, two]) for one, two in zip(good, bad, strict=True))
        assert known_worse(now[:1_500], before[:1_500], RULES) is None
        found = known_worse(now, before, RULES)
        assert found is not None
        assert found.first >= 1_300
        assert found.first + found.blocks <= 1_900
        assert "th on it is known" in found.sentence


def test_since_when_is_counted_as_a_person_counts():
    good, bad = pair(500, 3, mean=1.5), pair(500, 53, mean=-0.5)
    now, before = (np.concatenate([one, two]) for one, two in zip(good, bad, strict=True))
    whole = known_worse(now, before, RULES)
    assert whole is not None
    holes = [np.concatenate([np.full(7, np.nan), one]) for one in (now, before)]
    found = known_worse(*holes, RULES)
    assert found is not None
    assert (found.first - 7, found.blocks, found.now) == (whole.first, whole.blocks, whole.now)


def test_a_block_without_a_value_accuses_nobody_and_several_of_what_decides_now_do():
    now, before = pair(300, 1)
    both = np.array(now), np.array(before)
    both[0][50] = both[1][50] = np.nan
    assert known_worse(*both, RULES) is None
    now[50:54] = np.nan
    now[200] = np.nan
    assert known_worse(now, before, RULES) is None
    now[148] = np.nan
    found = known_worse(now, before, RULES)
    assert found is not None
    assert found.sentence == "5 of 99 blocks could not be valued, and could of what decided before"
    assert found.first == 50
    assert known_worse(np.zeros(0), np.zeros(0), RULES) is None
    assert gains(np.array([2.0, 0.0, -1.0])).tolist() == [1.0, 0.5, 0.0]

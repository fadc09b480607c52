"""Guardrails: harm is told soon, and seldom where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import coverage
from services.experiments.statistics.guardrail import FEWEST_BLOCKS, Breach, Guardrail, looks_until

RAIL = Guardrail(tolerance=0.5, at_once=10.0, alpha=0.05)


@pytest.mark.parametrize("name", coverage.SERIES)
def test_one_within_its_tolerance_is_seldom_accused(name):
    rail = Guardrail(0.0, math.inf, 0.05)
    accused = sum(
        rail.breach(coverage.SERIES[name](np.random.default_rng([seed, 7]), 500)) is not None for seed in range(60)
    )
    assert accused < coverage.false_alarms_below(60)


def test_harm_is_found_by_its_mean():
    found = RAIL.breach(np.random.default_rng(1).standard_normal(500) + 3.0)
    assert FEWEST_BLOCKS <= found.blocks <= 60
    assert (found.at_once, found.bound) == (False, 0.5)
    assert 0.5 < found.excess < 3.0


def test_one_block_that_is_bad_enough_is_enough():
    differences = np.array([0.0, 0.1, 11.0, 0.0])
    assert RAIL.breach(differences[:2]) is None
    assert RAIL.breach(differences) == Breach(3, 11.0, 10.0, at_once=True)


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_what_is_no_number_is_harm(odd):
    for rail in (RAIL, Guardrail(0.5, math.inf, 0.05)):
        assert rail.breach(np.array([0.0, odd])).blocks == 2


def test_what_was_shown_once_stays_shown():
    chance = np.random.default_rng(4)
    differences = np.concatenate([chance.standard_normal(300) + 2.0, chance.standard_normal(5000) - 1.0])
    found = RAIL.breach(differences[:300])
    assert found.blocks < 300
    assert all(RAIL.breach(differences[:n]) == found for n in (301, 1000, 5300))


def test_it_looks_at_the_same_places_however_often_somebody_asks():
    assert list(looks_until(60)) == [20, 30, 40, 50, 60]
    many = list(looks_until(100_000))
    assert many[: len(list(looks_until(5000)))] == list(looks_until(5000))
    assert len(many) < 200


def test_harm_that_never_varies_is_told():
    assert Guardrail(0.01, math.inf, 0.05).breach(np.ones(25)) == Breach(20, 1.0, 0.01, at_once=False)
    # And what varies only later.
    late = np.concatenate([np.ones(500), np.random.default_rng(1).standard_normal(200) + 1.0])
    assert Guardrail(0.01, math.inf, 0.05).breach(late).blocks == 20


@pytest.mark.parametrize("quiet", [20, 25, 29, 45, 95])
def test_what_began_without_a_difference_accuses_nobody(quiet):
    """A market that opens late, or models that warm up: what follows is judged by an interval, as ever."""
    rail = Guardrail(0.05, math.inf, 0.05)
    accused = 0
    for seed in range(40):
        noise = np.random.default_rng([seed, quiet]).standard_normal(200)
        accused += rail.breach(np.concatenate([np.zeros(quiet), noise])) is not None
    assert accused < coverage.false_alarms_below(40)
    assert Guardrail(0.01, math.inf, 0.05).breach(np.array([*[0.0] * 29, 0.9])) is None


def test_nothing_is_no_harm():
    assert RAIL.breach(np.zeros(0)) is None
    assert RAIL.breach(np.zeros(1000)) is None
    assert RAIL.breach(np.full(1000, -math.inf)) is None

"""Which units are whose follows from salt, symbol and block alone, and a share that grows moves nobody's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trading.experiments.assignment import (
    CanaryArms,
    ShareStep,
    arm_of_place,
    experiment_named,
    name_of,
    overlap,
    place_of_unit,
)

SYMBOLS = [f"S{k}" for k in range(20)]
UNITS = [(symbol, block) for symbol in SYMBOLS for block in range(1000)]


def places(salt):
    return np.array([place_of_unit(salt, symbol, block) for symbol, block in UNITS])


def test_places_are_uniform_and_those_of_another_salt_are_others():
    one, other = places("salt-of-one"), places("salt-of-two")
    assert stats.kstest(one, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
    # Of a symbol one block says nothing of the next.
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.03
    assert (places("salt-of-one") == one).all()


def test_a_place_is_what_it_was_yesterday():
    # A log is replayed by later versions: another place would be another arm.
    assert place_of_unit("salt-of-one", "BTCUSDT", 2_900_000) == 0.9746254410328266
    assert place_of_unit("salt-of-one", "A", 12) != place_of_unit("salt-of-one", "A1", 2)


@pytest.mark.parametrize("challengers", [1, 2, 3, 8])
def test_a_share_that_grows_takes_from_the_champion_alone(challengers):
    found = [[arm_of_place(p, share, challengers) for p in places("growing")] for share in (0.0, 0.05, 0.25, 1.0)]
    assert set(found[0]) == {0}
    for fewer, more in zip(found, found[1:], strict=False):
        assert all(now == before for before, now in zip(fewer, more, strict=True) if before)
    for share, arms in zip((0.05, 0.25), found[1:3], strict=True):
        counts = np.bincount(arms, minlength=challengers + 1) / len(UNITS)
        assert counts[1:] == pytest.approx([share / challengers] * challengers, abs=0.01)
    assert 0 not in found[3]


def arms(*steps, symbols=()):
    return CanaryArms("fresh", "some-salt", 10, 1, frozenset(symbols), steps)


def test_a_step_holds_from_its_block_on():
    found = arms(ShareStep(100, 1.0, 7), ShareStep(200, 0.0, 9))
    assert found.arm_of("A", 99) is None
    assert [found.arm_of("A", block) for block in (100, 199, 200)] == [(1, 7), (1, 7), (0, 9)]


def test_other_symbols_are_nobody_s():
    found = arms(ShareStep(0, 1.0, 7), symbols=("A",))
    assert (found.arm_of("A", 5), found.arm_of("B", 5)) == ((1, 7), None)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ((), (), []),
        (("A", "B"), (), ["A", "B"]),
        ((), ("B",), ["B"]),
        (("A", "B"), ("B", "C"), ["B"]),
        (("A",), ("C",), None),
    ],
)
def test_which_units_two_would_divide(one, other, shared):
    assert overlap(one, other) == shared


def test_how_a_decision_names_an_experiment():
    assert name_of("fresh", 42) == "fresh@42"
    assert [experiment_named(told) for told in ("fresh@42", "")] == ["fresh", ""]

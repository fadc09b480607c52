"""Verdicts: what is too little never passes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from services.experiments.statistics.sequence import ConfidenceSequence, Interval
from services.experiments.statistics.verdict import Enough, Verdict, blocks_left, corrected, judge

ENOUGH = Enough(200, 0.5)


@pytest.mark.parametrize(
    ("blocks", "mean", "lower", "upper", "verdict"),
    [
        (200, 1.0, 0.1, 1.9, Verdict.BETTER),
        (200, -1.0, -1.9, -0.1, Verdict.WORSE),
        (200, 0.0, -0.49, 0.49, Verdict.EQUAL),
        # Surely above 0, and surely too small to matter.
        (200, 0.2, 0.1, 0.3, Verdict.EQUAL),
        (200, 0.0, -0.51, 0.49, Verdict.UNDECIDED),
        (200, 1.0, 0.0, 2.0, Verdict.UNDECIDED),
        (199, 1.0, 0.1, 1.9, Verdict.UNDECIDED),
        (0, math.nan, -math.inf, math.inf, Verdict.UNDECIDED),
        (10_000, math.nan, 0.1, 1.9, Verdict.UNDECIDED),
        (10_000, 1.0, math.nan, math.nan, Verdict.UNDECIDED),
        (10_000, 5.0, -math.inf, math.inf, Verdict.UNDECIDED),
    ],
)
def test_a_verdict_is_what_the_interval_leaves(blocks, mean, lower, upper, verdict):
    assert judge(Interval(blocks, mean, lower, upper, 1.0), ENOUGH) is verdict


def test_how_many_blocks_a_verdict_may_take():
    sequence = ConfidenceSequence(1000, 0.05)
    chance = np.random.default_rng(5)
    far = sequence.look(chance.standard_normal(150) + 0.25)
    left = blocks_left(sequence, far, Enough(100, 0.05), 100_000)
    assert 0 < left < 1000
    # What is enough for the interval is not before there are enough blocks.
    assert blocks_left(sequence, far, Enough(5000, 0.05), 100_000) == 5000 - 150
    # Nearly nothing, and nothing matters: it may take for ever.
    near = sequence.look(chance.standard_normal(150))
    assert blocks_left(sequence, near, Enough(100, 1e-6), 1000) is None
    assert blocks_left(sequence, sequence.look(np.zeros(50)), ENOUGH, 1000) is None
    # As many as the interval that is looked at needs, whatever the first blocks were like.
    calm = np.concatenate([0.3 * chance.standard_normal(100), chance.standard_normal(100)]) - 0.02
    looked = sequence.look(calm)
    assert looked.lower < 0.0 < looked.upper
    assert blocks_left(sequence, looked, Enough(100, 0.05), 100_000) > 0
    # Decided already.
    assert blocks_left(sequence, sequence.look(chance.standard_normal(2000) + 1.0), ENOUGH, 1000) == 0


def test_several_challengers_share_the_chance_of_being_wrong():
    assert corrected(0.05, 1) == 0.05
    assert corrected(0.05, 4) == pytest.approx(0.0125)
    wider = [ConfidenceSequence(1000, corrected(0.05, k)).radius(1000, 1.0, 1.0) for k in (1, 2, 8)]
    assert wider == sorted(wider)

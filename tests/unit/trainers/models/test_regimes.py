"""Regimes: from the past only, named for what they are, the same after a retrain, and found where they were planted."""

from __future__ import annotations

import numpy as np
import pytest

from trading.errors import ConfigurationError
from trading.history import simulate
from trading.models.signature import REGIMES
from trainers.data.splits import walk_forward
from trainers.evaluation import regime_report
from trainers.models import calibration, regime_fits, regime_teacher
from trainers.models.regime_teacher import BEAR, BULL, SIDEWAYS, Teacher, forward_filter, matched
from trainers.training.fold import FoldSettings, train_fold
from trainers.walk_forward import as_plain, from_plain, usable


def made(log_density, symbols):
    transitions = np.full((3, 3), 0.05) + np.eye(3) * 0.85
    return forward_filter(log_density, transitions, np.full(3, 1 / 3), symbols)


def test_the_filter_uses_the_past_only():
    density = np.log(np.random.default_rng(0).dirichlet(np.ones(3), 50))
    symbols = np.zeros(50, np.int64)
    whole, likelihood = made(density, symbols)
    part, partly = made(density[:20], symbols[:20])
    np.testing.assert_array_equal(whole[:20], part)
    np.testing.assert_array_equal(likelihood[:20], partly)
    np.testing.assert_allclose(whole.sum(axis=1), 1.0)


def test_the_filters_likelihood_is_that_of_the_sequence():
    """Against the sum over all paths of states."""
    random = np.random.default_rng(1)
    density = random.random((5, 3)) + 0.1
    transitions, start = random.dirichlet(np.ones(3), 3), random.dirichlet(np.ones(3))
    total = 0.0
    for path in np.ndindex(3, 3, 3, 3, 3):
        p = start[path[0]] * density[0, path[0]]
        for k in range(1, 5):
            p *= transitions[path[k - 1], path[k]] * density[k, path[k]]
        total += p
    _, likelihood = forward_filter(np.log(density), transitions, start, np.zeros(5, np.int64))
    assert likelihood.sum() == pytest.approx(np.log(total), abs=1e-9)


def truth(data, spec_seed, ticks, symbols):
    """The regime that moved each of a dataset's rows."""
    order = (simulate.BULL, simulate.BEAR, simulate.CALM)
    moved = [(r.tick.symbol, r.tick.event_time_ns, order.index(now)) for r, now in
             simulate.with_truth(simulate.SCENARIOS["regimes"], spec_seed, ticks, symbols)]  # fmt: skip
    by_tick = {(symbol, time_ns): k for symbol, time_ns, k in moved}
    return np.array(
        [by_tick[data.names[s], t] for s, t in zip(data.symbols.tolist(), data.time_ns.tolist(), strict=True)]
    )


def test_planted_regimes_are_found_by_teacher_and_student(regimes):
    planted = truth(regimes, 2, 40_000, 2)
    (split,) = walk_forward(regimes.time_ns, regimes.labels.end_ns, 1)
    fold = train_fold(
        "fold", regimes, usable(split, regimes), FoldSettings(teacher="hmm"), None, None, lambda _: None
    )
    test = fold.split.test
    assert (fold.filtered[test].argmax(axis=1) == planted[test]).mean() > 0.8
    report = regime_report.report(regimes, fold, None)
    assert report.agreement > 0.8
    assert (fold.answers.probabilities.argmax(axis=1) == planted[test]).mean() > 0.75
    # They last 2,000 ticks, which two symbols share, and the longest is not much longer than the test.
    assert (report.expected_dwell > 30).all()
    assert report.curve.error < 0.1
    assert 0.0 < report.disruption_mean < 0.05


def test_names_follow_the_moments_and_survive_a_retrain_with_another_seed(regimes):
    observations, symbols = regime_teacher.observe(regimes), regimes.symbols
    first = regime_fits.fit(observations, symbols, 1, "hmm")
    again = regime_fits.fit(observations, symbols, 99, "hmm", first)
    trend = first.moments[0][:, 0]
    assert trend[BULL] > trend[SIDEWAYS] > trend[BEAR]
    same = first.filtered(observations, symbols).argmax(axis=1) == again.filtered(observations, symbols).argmax(
        axis=1
    )
    assert same.mean() > 0.99


def teacher(trends):
    means = np.column_stack([trends, [0.0, 0.0, 0.0]])
    return Teacher("hmm", means, np.ones((3, 2)), np.full((3, 3), 1 / 3), np.full(3, 1 / 3), np.arange(3), 0.0)


def test_states_keep_the_name_of_the_nearest_one_before():
    before = teacher([2.0, -2.0, 0.0])
    # Drifted: by moments alone the third would be bear, by distance it is still sideways.
    means = np.array([[-0.6, 0.0], [1.9, 0.0], [-0.5, 0.0]])
    assert matched(np.array([[1.9, 0.0], [0.1, 0.0], [-1.5, 0.0]]), np.ones((3, 2)), before).tolist() == [
        BULL,
        SIDEWAYS,
        BEAR,
    ]
    assert matched(means, np.ones((3, 2)), before)[1] == BULL
    # What would call a falling state bull is named by its moments.
    odd = teacher([-2.0, 2.0, 0.0])
    assert matched(before.means, np.ones((3, 2)), odd).tolist() == [BULL, BEAR, SIDEWAYS]


@pytest.mark.slow
def test_a_mixture_has_every_regime_and_forgets_at_once(regimes):
    observations, symbols = regime_teacher.observe(regimes), regimes.symbols
    mixture = regime_fits.fit(observations, symbols, 1, "mixture")
    assert set(mixture.regime_of.tolist()) == {BULL, BEAR, SIDEWAYS}
    assert 3 <= len(mixture.means) <= regime_fits.MOST_COMPONENTS
    p = mixture.filtered(observations, symbols)
    alone = mixture.filtered(observations[5000:5001], symbols[5000:5001])
    np.testing.assert_allclose(p[5000:5001], alone, atol=1e-9)
    hmm = regime_fits.fit(observations, symbols, 1, "hmm")
    best = regime_fits.fit(observations, symbols, 1, "auto")
    assert best.kind == "hmm"
    assert hmm.log_likelihood > mixture.log_likelihood


def test_figures_of_a_teacher_add_up():
    found = teacher([1.0, -1.0, 0.0])
    stay = Teacher(
        found.kind,
        found.means,
        found.variances,
        np.full((3, 3), 0.05) + np.eye(3) * 0.85,
        found.start,
        found.regime_of,
        0.0,
    )
    np.testing.assert_allclose(stay.regime_transitions.sum(axis=1), 1.0)
    np.testing.assert_allclose(stay.dwell, 10.0)
    np.testing.assert_allclose(stay.shares, 1 / 3)
    again = from_plain(as_plain(stay))
    np.testing.assert_array_equal(again.transitions, stay.transitions)
    with pytest.raises(ConfigurationError, match="stored teacher"):
        from_plain({"kind": "hmm"})


def test_a_market_without_movement_has_no_regimes():
    with pytest.raises(ConfigurationError, match="no regimes to tell apart"):
        regime_fits.fit(np.zeros((100, 2)), np.zeros(100, np.int64), 1)


def test_dwell_times_are_counted_a_symbol():
    likeliest, symbols = np.array([0, 1, 0, 1, 2, 1]), np.array([0, 1, 0, 1, 0, 1])
    assert regime_report.dwell_times(likeliest, symbols).tolist() == [2.0, 3.0, 1.0]


def test_a_temperature_makes_overconfident_probabilities_honest():
    random = np.random.default_rng(0)
    logits = random.normal(size=(5000, 3))
    truth = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = calibration.temperature(logits * 3.0, truth)
    assert found == pytest.approx(3.0, rel=0.02)

    def error(values):
        p = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
        return calibration.curve(p, truth).error

    assert error(logits) == pytest.approx(0.0, abs=1e-9)
    assert error(logits * 3.0) > 0.1
    assert len(REGIMES) == 3

"""Gates: each can stop a promotion, and none is passed by saying nothing."""

from __future__ import annotations

import pytest

from trading.features.definitions import FEATURE_VERSION
from trainers.registry.promotion import PIPELINE, PromotionEvidence, gates, overridden, refused

GOOD = {
    "regime_detection": {"agreement": 0.9, "calibration_error": 0.01, "disruption_mean": 0.01},
    "strategy_signals": {"ic_momentum": 0.02, "ic_breakout": -0.1},
    "meta_controller": {"edge": 1.0, "deflated_sharpe": 0.97, "overfitting_probability": 0.1, "t_statistic": 3.0,
                        "equal_weights_t_statistic": 2.0, "best_single_t_statistic": 2.5},
}  # fmt: skip
TAGS = {"feature_version": str(FEATURE_VERSION), "training": "run1", "judged_by": "abc", "costs_bps": "2"}


def challengers(changes=None, tags=None):
    """Good evidence, but for some metrics (None: absent) and tags."""
    found = {}
    for name in PIPELINE:
        metrics = {k: (changes or {}).get(k, v) for k, v in GOOD[name].items()}
        told = {k: v for k, v in metrics.items() if v is not None}
        found[name] = PromotionEvidence("3", {**TAGS, **(tags or {}).get(name, {})}, told)
    return found


def test_good_evidence_passes_every_gate():
    assert refused(gates(challengers(), {})) == []


@pytest.mark.parametrize(
    ("change", "stops"),
    [
        ({"agreement": 0.7}, "agreement"),
        ({"calibration_error": 0.2}, "calibration error"),
        ({"disruption_mean": 0.06}, "disruption mean"),
        ({"ic_momentum": -0.02}, "best information coefficient"),
        ({"edge": 0.0}, "edge"),
        ({"deflated_sharpe": 0.94}, "deflated sharpe"),
        ({"overfitting_probability": 0.6}, "overfitting probability"),
        ({"t_statistic": 2.2}, "beats the best single strategy"),
        ({"t_statistic": 1.0}, "beats equal weights"),
        ({"agreement": None}, "agreement"),
        ({"overfitting_probability": None}, "overfitting probability"),
    ],
)
def test_each_gate_stops_what_it_is_for(change, stops):
    found = gates(challengers(change), {})
    assert stops in [gate.name for gate in refused(found)]
    assert stops not in [gate.name for gate in refused(overridden(found, [stops]))]


def test_models_of_different_trainings_or_features_are_refused():
    mixed = gates(challengers(tags={"strategy_signals": {"training": "run2"}}), {})
    assert [g.name for g in refused(mixed)] == ["one training"]
    old = gates(challengers(tags={"regime_detection": {"feature_version": "0"}}), {})
    assert [g.name for g in refused(old)] == ["feature version"]
    untold = gates(challengers(tags={name: {"training": ""} for name in PIPELINE}), {})
    assert [g.name for g in refused(untold)] == ["one training"]


def test_a_gain_without_costs_is_no_evidence():
    free = gates(challengers(tags={"meta_controller": {"costs_bps": "0"}}), {})
    assert [g.name for g in refused(free)] == ["costs counted"]


def test_a_champion_is_replaced_only_by_what_is_not_worse_on_the_same_rows():
    def champion(t, data="abc"):
        return {"meta_controller": PromotionEvidence("2", {"judged_by": data}, {"t_statistic": t})}

    assert refused(gates(challengers(), champion(2.9))) == []
    assert [g.name for g in refused(gates(challengers(), champion(3.1)))] == ["not worse than champion 2"]
    assert [g.measured for g in refused(gates(challengers(), champion(1.0, "other")))] == [
        "tested on other rows, costs or limits"
    ]

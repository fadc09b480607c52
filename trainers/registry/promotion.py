"""Gates that a challenger must pass to become champion: evidence, not dates or drift, promotes a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from trading.features.definitions import FEATURE_VERSION
from trading.models.signature import STRATEGIES

#: How the gate begins that asks whether a version is worse than the champion; its version follows.
AGAINST_CHAMPION = "not worse than champion "
PIPELINE = ("regime_detection", "strategy_signals", "meta_controller")


class Gate(Struct, frozen=True):
    """One condition: what was measured, what is asked for, whether it holds, and whether a human answers for it."""

    model: str
    name: str
    measured: str
    wanted: str
    passed: bool
    overridden: bool = False


class PromotionEvidence(Struct, frozen=True):
    """Of one version: tags and metrics, out of sample."""

    version: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


class Thresholds(Struct, frozen=True):
    """Of the gates; changes of them are changes of the code, reviewed as such.

    Attributes:
        agreement, calibration_error, disruption: of the regimes' student.
        deflated_sharpe: least P(true Sharpe ratio > 0).
        overfitting: greatest probability of backtest overfitting.
    """

    agreement: float = 0.75
    calibration_error: float = 0.1
    disruption: float = 0.05
    deflated_sharpe: float = 0.95
    overfitting: float = 0.5


def gates(
    challengers: Mapping[str, PromotionEvidence],
    champions: Mapping[str, PromotionEvidence],
    thresholds: Thresholds | None = None,
    *,
    compared_live: bool = False,
) -> list[Gate]:
    """Every gate, whether it passes or not.

    Args:
        challengers: by model, all of the pipeline.
        champions: by model; empty where there is none.
        thresholds: of the gates.
        compared_live: whether an experiment on live ticks compares it with the champion before it serves: then one
            that was tested on other rows than the champion is not stopped for that.
    """
    t = thresholds or Thresholds()
    found = [gate for name in PIPELINE for gate in common(name, challengers[name])]
    trainings = {name: challengers[name].tags.get("training", "") for name in PIPELINE}
    together = len(set(trainings.values())) == 1 and "" not in trainings.values()
    found.append(Gate("pipeline", "one training", ", ".join(sorted(set(trainings.values()))) or "unknown",
                      "the three models come from the same", together))  # fmt: skip
    regime = challengers["regime_detection"].metrics
    found += [
        least("regime_detection", "agreement", regime, t.agreement),
        most("regime_detection", "calibration_error", regime, t.calibration_error),
        most("regime_detection", "disruption_mean", regime, t.disruption),
    ]
    signals = challengers["strategy_signals"].metrics
    best = max((signals.get(f"ic_{name}", float("nan")) for name in STRATEGIES), default=float("nan"))
    found.append(Gate("strategy_signals", "best information coefficient", f"{best:.4g}", "above 0", best > 0.0))
    meta = challengers["meta_controller"].metrics
    found += [
        least("meta_controller", "edge", meta, 1.0),
        least("meta_controller", "deflated_sharpe", meta, t.deflated_sharpe),
        most("meta_controller", "overfitting_probability", meta, t.overfitting),
        beats(meta, "t_statistic", "equal_weights_t_statistic", "equal weights"),
        beats(meta, "t_statistic", "best_single_t_statistic", "the best single strategy"),
    ]
    paid = challengers["meta_controller"].tags.get("costs_bps", "0")
    found.append(Gate("meta_controller", "costs counted", f"{paid} bp", "more than 0", float(paid) > 0.0))
    champion = champions.get("meta_controller")
    found += against_champion(challengers["meta_controller"], champion, compared_live=compared_live)
    return found


def gate_names() -> list[str]:
    """By which somebody may answer for them; those against a champion name its version, see AGAINST_CHAMPION."""
    nothing = {name: PromotionEvidence("", {}, {}) for name in PIPELINE}
    return list(dict.fromkeys(gate.name for gate in gates(nothing, {})))


def common(name: str, evidence: PromotionEvidence) -> list[Gate]:
    """What every model needs."""
    version = evidence.tags.get("feature_version", "unknown")
    return [Gate(name, "feature version", version, str(FEATURE_VERSION), version == str(FEATURE_VERSION))]


def least(model: str, name: str, metrics: Mapping[str, float], bound: float) -> Gate:
    """A metric of at least `bound`; one that is absent does not pass."""
    value = metrics.get(name, float("nan"))
    return Gate(model, name.replace("_", " "), f"{value:.4g}", f"at least {bound:g}", value >= bound)


def most(model: str, name: str, metrics: Mapping[str, float], bound: float) -> Gate:
    """A metric of at most `bound`; one that is absent does not pass."""
    value = metrics.get(name, float("nan"))
    return Gate(model, name.replace("_", " "), f"{value:.4g}", f"at most {bound:g}", value <= bound)


def beats(metrics: Mapping[str, float], mine: str, other: str, whom: str) -> Gate:
    """One metric above another."""
    a, b = metrics.get(mine, float("nan")), metrics.get(other, float("nan"))
    return Gate("meta_controller", f"beats {whom}", f"t {a:.3g}", f"above {b:.3g}", a > b)


def against_champion(
    challenger: PromotionEvidence, champion: PromotionEvidence | None, *, compared_live: bool = False
) -> list[Gate]:
    """Not worse than the champion, where both were tested on the same rows."""
    if champion is None:
        return [Gate("meta_controller", "champion", "there is none", "nothing to compare with", passed=True)]
    mine, its = (e.metrics.get("t_statistic", float("nan")) for e in (challenger, champion))
    same = challenger.tags.get("judged_by", "") == champion.tags.get("judged_by") != ""
    name = f"{AGAINST_CHAMPION}{champion.version}"
    if not same:
        wanted = "they are compared on live ticks" if compared_live else "train both alike"
        measured = "tested on other rows, costs or limits"
        return [Gate("meta_controller", name, measured, wanted, passed=compared_live)]
    wanted = f"at least {its:.3g}"
    return [Gate("meta_controller", name, f"t {mine:.3g}", wanted, mine >= its)]


def overridden(found: Sequence[Gate], names: Sequence[str]) -> list[Gate]:
    """The gates, those marked that did not pass and are answered for by name."""
    return [replace(gate, overridden=not gate.passed and gate.name in names) for gate in found]


def refused(found: Sequence[Gate]) -> list[Gate]:
    """The gates that stop a promotion: neither passed nor overridden."""
    return [gate for gate in found if not (gate.passed or gate.overridden)]

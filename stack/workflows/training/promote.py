"""From challenger to champion, through gates, with a record of who, when and why."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from trading.errors import ConfigurationError
from trainers.registry.promotion import Gate

if TYPE_CHECKING:
    from trainers.registry.champions import Candidate
    from trainers.registry.promotion import PromotionEvidence


class Promotion(Struct, frozen=True):
    """What was decided: the versions by model, each gate, and the run in MLflow that records it."""

    promoted: bool
    versions: dict[str, str]
    gates: list[Gate]
    run_id: str


def promote(
    mlflow_uri: str, reference: str, reason: str, by: str, override: list[str], *, dry_run: bool = False
) -> Promotion:
    """Promote the three models of a training together, or refuse.

    Args:
        mlflow_uri: where they are registered.
        reference: alias (or number, the same for all three) of the versions.
        reason, by: recorded.
        override: names of gates that a human takes upon themselves.
        dry_run: only look.

    Raises:
        ConfigurationError: a version is missing, or `override` names no gate.
        ServiceUnavailable: MLflow does not answer.
    """
    from trainers.registry import aliases, champions, promotion

    aliases.connect(mlflow_uri)
    chosen = chosen_versions(mlflow_uri, reference)
    standing = [one for name in promotion.PIPELINE if (one := champions.candidate(name, aliases.CHAMPION))]
    gates = promotion.gates(evidence_of(chosen), evidence_of(standing))
    unknown = sorted(set(override) - {gate.name for gate in gates})
    if unknown:
        names = ", ".join(dict.fromkeys(gate.name for gate in gates))
        raise ConfigurationError(f"no gate is called {', '.join(unknown)}: there are {names}")
    told = promotion.overridden(gates, override)
    stopped = bool(promotion.refused(told))
    versions = {one.name: one.version for one in chosen}
    if dry_run:
        return Promotion(False, versions, told, "")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"promoted_at": now, "promoted_by": by, "promotion_reason": reason,
              "promotion_overrides": json.dumps(override)}  # fmt: skip
    run_id = carry_out(chosen, record, told, stopped=stopped)
    return Promotion(not stopped, versions, told, run_id)


def chosen_versions(mlflow_uri: str, reference: str) -> list[Candidate]:
    """All three models' versions of a reference. Raises ConfigurationError where one is missing."""
    from trainers.registry import champions, promotion

    found = {name: champions.candidate(name, reference) for name in promotion.PIPELINE}
    missing = [name for name, one in found.items() if one is None]
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)} has no version {reference!r} in MLflow at {mlflow_uri}: train first, "
            "`ultrathink train all`"
        )
    return [one for one in found.values() if one is not None]


def evidence_of(candidates: list[Candidate]) -> dict[str, PromotionEvidence]:
    """What the gates look at, by model."""
    from trainers.registry.promotion import PromotionEvidence

    return {
        one.name: PromotionEvidence(one.version, {**one.run_tags, **one.tags}, one.metrics) for one in candidates
    }


def carry_out(chosen: list[Candidate], record: dict[str, str], told: list[Gate], *, stopped: bool) -> str:
    """Record the decision, and promote unless a gate stopped it; returns the run that records it."""
    from trainers.registry import champions

    tags = {
        **record,
        "outcome": "refused" if stopped else "begun",
        **{f"version_{one.name}": one.version for one in chosen},
    }
    run_id = champions.record_decision("promotion", tags, {"gates": msgspec.to_builtins(told)})
    if stopped:
        return run_id
    outcome = "failed"
    try:
        champions.promote(chosen, {**record, "promotion_run": run_id})
        outcome = "promoted"
    finally:
        champions.record_outcome(run_id, outcome)
    return run_id

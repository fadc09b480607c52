"""From challenger to champion, through gates, with a record of who, when and why."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from trading.errors import ConfigurationError
from trainers.registry.promotion import Gate


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
    from trainers.registry import champions, promotion, tracking

    tracking.connect(mlflow_uri)
    found = {name: champions.candidate(name, reference) for name in promotion.PIPELINE}
    missing = [name for name, one in found.items() if one is None]
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)} has no version {reference!r} in MLflow at {mlflow_uri}: train first, "
            "`ultrathink train all`"
        )
    chosen = [one for one in found.values() if one is not None]
    standing = {
        one.name: one for name in promotion.PIPELINE if (one := champions.candidate(name, tracking.CHAMPION))
    }

    def evidence(one: champions.Candidate) -> promotion.Evidence:
        return promotion.Evidence(one.version, {**one.run_tags, **one.tags}, one.metrics)

    gates = promotion.gates(
        {one.name: evidence(one) for one in chosen}, {name: evidence(one) for name, one in standing.items()}
    )
    unknown = sorted(set(override) - {gate.name for gate in gates})
    if unknown:
        names = ", ".join(dict.fromkeys(gate.name for gate in gates))
        raise ConfigurationError(f"no gate is called {', '.join(unknown)}: there are {names}")
    told = promotion.overridden(gates, override)
    stopped = promotion.refused(told)
    versions = {one.name: one.version for one in chosen}
    if dry_run:
        return Promotion(False, versions, told, "")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"promoted_at": now, "promoted_by": by, "promotion_reason": reason,
              "promotion_overrides": json.dumps(override)}  # fmt: skip
    tags = {
        **record,
        "outcome": "refused" if stopped else "begun",
        **{f"version_{k}": v for k, v in versions.items()},
    }
    run_id = champions.record_decision("promotion", tags, {"gates": msgspec.to_builtins(told)})
    if not stopped:
        outcome = "failed"
        try:
            champions.promote(chosen, {**record, "promotion_run": run_id})
            outcome = "promoted"
        finally:
            champions.record_outcome(run_id, outcome)
    return Promotion(not stopped, versions, told, run_id)

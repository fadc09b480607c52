"""What a demo came to: counted, kept as JSON, and one decision to show."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from stack.demo.run import Run
from stack.supervision.status import ServiceStatus, read_status
from stack.workflows.answers import AnswersReport
from stack.workflows.export_workflow import ServedVersion
from stack.workflows.trail import TrailReport
from stack.workflows.training.train import TrainReport
from trading.arrays import FloatArray
from trading.decision.schema import Decision
from trading.errors import UltraThinkError
from trading.risk.verdict import Outcome


class ModelRow(Struct, frozen=True):
    """A served model, its run and how far it is from its source."""

    name: str
    version: int
    run_id: str
    format: str
    parity_max_abs_diff: float


class ServiceRow(Struct, frozen=True):
    """A server as it was at the end of the run."""

    name: str
    state: str
    endpoint: str
    memory_mb: float


class DemoResult(Struct, frozen=True):
    """What `ultrathink demo --json` prints.

    Latency: intended send to decision visible, ms, of what came after the warm-up; so is `late`, the share of ticks
    that was held because its budget was spent or a newer tick had come. Headroom: the smallest share of each limit
    that was left; below 0 an order was denied, or made smaller, or an exit was let through beyond the limit.
    `is_kept`: whether this machine keeps the rate that was asked for, if one was; `kept_per_s`: where not, the one
    that it keeps, 0 where it keeps none that was tried, null where that could not be measured.
    """

    source: str
    speed: str
    ticks: int
    decisions: int
    missing: int
    repeated: int
    ticks_per_second: float
    warm_up_s: float
    latency_ms: dict[str, float]
    late: float
    is_kept: bool
    kept_per_s: float | None
    actions: dict[str, int]
    holds_by_reason: dict[str, int]
    denials_by_rule: dict[str, int]
    clips_by_rule: dict[str, int]
    headroom_by_rule: dict[str, float]
    fills: int
    fees: float
    models: list[ModelRow]
    services: list[ServiceRow]
    training: TrainReport
    trail: TrailReport
    answers: AnswersReport
    report: str
    seconds: float


class Proven(Struct, frozen=True):
    """What was shown of the decisions: by the trail, and by the data service."""

    trail: TrailReport
    answers: AnswersReport


def tally(decisions: list[Decision]) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Actions, holds by reason, denials by rule."""
    actions = Counter(d.action.value for d in decisions)
    holds = Counter(d.reason.value for d in decisions if d.action.value == "hold")
    rules = Counter(
        rule for d in decisions if d.verdict is not None and d.reason.value == "denied" for rule in d.verdict.broken
    )
    return dict(actions), dict(holds), dict(rules)


def clips(decisions: list[Decision]) -> dict[str, int]:
    """How often each rule made an order smaller."""
    return dict(
        Counter(r for d in decisions if d.verdict and d.verdict.outcome is Outcome.CLIP for r in d.verdict.broken)
    )


def headroom_path(decisions: list[Decision], bins: int) -> dict[str, FloatArray]:
    """Of each rule with a number, the smallest share of its limit that was left, in each of `bins` parts of a run.

    Below zero an order was denied, or made smaller, or an exit was let through beyond the limit. NaN: no order.
    """
    found: dict[str, FloatArray] = {}
    for k, d in enumerate(decisions):
        for r in d.verdict.results if d.verdict else ():
            if r.headroom is not None and r.limit:
                path = found.setdefault(r.rule, np.full(bins, np.nan))
                at = k * bins // len(decisions)
                path[at] = np.fmin(path[at], r.headroom / r.limit)
    return found


def smallest_headroom(decisions: list[Decision]) -> dict[str, float]:
    """The lowest point of each rule's path."""
    found = {rule: float(path[0]) for rule, path in headroom_path(decisions, 1).items()}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def service_rows(found: list[ServiceStatus]) -> list[ServiceRow]:
    """What the result keeps of the health matrix."""
    return [ServiceRow(s.name, s.state, s.endpoint, s.memory_mb) for s in found]


def evidence_of(decisions: list[Decision]) -> Decision:
    """A decision to show: the last order, else the last decision."""
    orders = [d for d in decisions if d.verdict is not None and d.quantity != 0.0]
    if not decisions:
        raise UltraThinkError("no decision came back: see the gateway's log")
    return (orders or decisions)[-1]


def save_result(path: Path, result: DemoResult) -> None:
    """The JSON beside the HTML report."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result)))


def result_of(
    run: Run,
    trained: TrainReport,
    exported: Sequence[ServedVersion],
    proven: Proven,
    home: Path,
    report: Path,
    source: str,
    speed: str,
    seconds: float,
) -> DemoResult:
    """All figures of a demo.

    Args:
        run: what was published and what came back.
        trained, exported: of the models.
        proven: of what is on record, and of the data service.
        home, report: of the stack, and where the HTML goes.
        source, speed, seconds: of the ticks; the whole took.
    """
    (actions, holds, denials), status, latency = tally(run.decisions), read_status(home), run.latency
    return DemoResult(
        source=source,
        speed=speed,
        ticks=run.counts.ticks,
        decisions=run.counts.decisions,
        missing=run.counts.missing,
        repeated=run.counts.repeated,
        ticks_per_second=run.per_s,
        warm_up_s=run.warm_up_s,
        late=run.late,
        is_kept=run.is_kept,
        kept_per_s=run.kept_per_s,
        latency_ms={"p50": latency.p50, "p99": latency.p99, "p99_9": latency.p99_9, "max": latency.max},
        actions=actions,
        holds_by_reason=holds,
        denials_by_rule=denials,
        clips_by_rule=clips(run.decisions),
        headroom_by_rule=smallest_headroom(run.decisions),
        fills=sum(r.quantity != 0.0 for mine in run.fills.values() for _, r in mine),
        fees=sum(r.fee for mine in run.fills.values() for _, r in mine),
        models=[ModelRow(e.name, e.version, e.run_id, e.format, e.parity_max_abs_diff) for e in exported],
        services=service_rows(status.services if status else []),
        training=trained,
        trail=proven.trail,
        answers=proven.answers,
        report=os.fspath(report),
        seconds=seconds,
    )

"""Rows as what they mean, and a line for the history."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from connectors.postgres import Connection
from trainers.orchestrator.cycle import RunState, StepEnd, Verdict
from trainers.orchestrator.runs import Attempt, HistoryLine, Run, RunRequest

RUN_COLUMNS = (
    "id, kind, spec, priority, trigger, trigger_key, reason, submitted_by, submitted_at, state, step, verdict, "
    "why, not_before, fence, lease_until, divisor, cancelled, outputs, progress, ended_at"
)
ATTEMPT_COLUMNS = (
    "run, fence, step, pool, reference, holder, memory_mb, gpu_mb, "
    "started_at, ended_at, outcome, exit_code, peak_mb, why"
)


def seconds(time: datetime) -> float:
    """Since 1970."""
    return time.timestamp()


def maybe_seconds(time: datetime | None) -> float | None:
    """Since 1970; None for none."""
    return None if time is None else time.timestamp()


def to_run(row: Mapping[str, Any]) -> Run:
    """Of `RUN_COLUMNS`."""
    request = RunRequest(
        kind=row["kind"], spec=row["spec"], priority=row["priority"], trigger=row["trigger"],
        trigger_key=row["trigger_key"] or "", reason=row["reason"], by=row["submitted_by"],
    )  # fmt: skip
    return Run(
        id=row["id"], request=request, state=RunState(row["state"]), step=row["step"],
        verdict=Verdict(row["verdict"]), why=row["why"], fence=row["fence"],
        lease_until_s=maybe_seconds(row["lease_until"]), not_before_s=seconds(row["not_before"]),
        divisor=row["divisor"], cancelled=row["cancelled"], outputs=row["outputs"], progress=row["progress"],
        submitted_s=seconds(row["submitted_at"]), ended_s=maybe_seconds(row["ended_at"]),
    )  # fmt: skip


def to_attempt(row: Mapping[str, Any]) -> Attempt:
    """Of `ATTEMPT_COLUMNS`."""
    return Attempt(
        run=row["run"], fence=row["fence"], step=row["step"], pool=row["pool"], reference=row["reference"],
        holder=row["holder"],
        memory_mb=row["memory_mb"], gpu_mb=row["gpu_mb"], started_s=seconds(row["started_at"]),
        ended_s=maybe_seconds(row["ended_at"]), end=None if row["outcome"] is None else StepEnd(row["outcome"]),
        exit_code=row["exit_code"], peak_mb=row["peak_mb"], why=row["why"],
    )  # fmt: skip


def to_line(row: Mapping[str, Any]) -> HistoryLine:
    """Of an event."""
    return HistoryLine(seconds(row["at"]), row["run"], row["what"], row["done_by"], row["detail"])


def note(connection: Connection[Any], run: str, what: str, by: str, detail: str) -> None:
    """Put on record what happened, in the transaction that did it."""
    connection.execute(
        "INSERT INTO orchestrator.events (run, what, done_by, detail) VALUES (%s, %s, %s, %s)",
        (run, what, by, detail),
    )

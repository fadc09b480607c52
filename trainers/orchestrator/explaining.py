"""Why a run stands where it does, in sentences: what began it, each step and what it came to, and what it waits
for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from trainers.orchestrator.cycle import REJECT, RunState, StepEnd, Verdict, steps_of
from trainers.orchestrator.runs import Attempt, Run


def explanation(run: Run, attempts: Sequence[Attempt]) -> list[str]:
    """Sentences, in the order in which things happened.

    Args:
        run: which.
        attempts: at its steps, in order.
    """
    request = run.request
    found = [
        (
            f"{when(run.submitted_s)}: submitted by {request.by}, because {request.reason} "
            f"(trigger: {request.trigger})."
        )
    ]
    for step in dict.fromkeys(one.step for one in attempts):
        tries = [one for one in attempts if one.step == step]
        found += step_sentences(step, tries)
        if (
            summary := (run.outputs.get(step) or {}).get("summary")
            if isinstance(run.outputs.get(step), dict)
            else None
        ):
            found.append(f"{step}: {summary}")
    found.append(standing(run))
    return found


def step_sentences(step: str, tries: Sequence[Attempt]) -> list[str]:
    """What became of the attempts at one step; those that ended alike together."""
    found = []
    told: list[tuple[str, str, int, float]] = []
    for one in tries:
        end = str(one.end) if one.end is not None else "running"
        took = (one.ended_s or time.time()) - one.started_s
        if told and told[-1][:2] == (end, one.why):
            told[-1] = (end, one.why, told[-1][2] + 1, told[-1][3] + took)
        else:
            told.append((end, one.why, 1, took))
    for end, why, times, took in told:
        often = f", {times} times" if times > 1 else ""
        because = f": {why}" if why else ""
        found.append(f"{step} {WORDS.get(end, end)}{often} after {took:,.0f} s{because}.")
    return found


WORDS = {
    StepEnd.DONE: "was done",
    StepEnd.REJECTED: "spoke against the model",
    StepEnd.FAILED: "failed",
    StepEnd.AGAIN: "was to be tried again",
    StepEnd.LOST: "was lost, and begun anew",
    StepEnd.CANCELLED: "was cancelled",
    "running": "has been running",
}


def standing(run: Run) -> str:
    """Where it stands now."""
    if run.state is RunState.ENDED:
        why = f": {run.why}" if run.why else ""
        return f"{when(run.ended_s or 0.0)}: it {ENDED[run.verdict]}{why}."
    steps = steps_of(run.request.kind)
    if run.step == REJECT:
        return f"What it began is being put back; then it {ENDED[run.verdict]}: {run.why}."
    place = f"step {steps.index(run.step) + 1} of {len(steps)}, {run.step}"
    if run.state is RunState.RUNNING:
        told = run.progress.get("stage", "")
        done, total = run.progress.get("done", 0), run.progress.get("total", 0)
        far = f" ({told}{f', {done:,} of {total:,}' if total else ''})" if told else ""
        return f"It is at {place}{far}."
    if run.cancelled:
        return f"It is at {place}, and is being cancelled: {run.cancelled}."
    wait = f", not before {when(run.not_before_s)}" if run.not_before_s > time.time() else ""
    return f"It waits at {place}{wait}{f': {run.why}' if run.why else ''}."


ENDED = {
    Verdict.SUCCEEDED: "succeeded",
    Verdict.REJECTED: "was rejected",
    Verdict.FAILED: "failed",
    Verdict.CANCELLED: "was cancelled",
    Verdict.NONE: "ended",
}


def when(time_s: float) -> str:
    """A time for people, UTC."""
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M:%S}"

"""What is known of a run, an attempt at one of its steps, and what happened to it."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from trainers.orchestrator.cycle import RunState, StepEnd, Verdict

#: Of identifiers and names that people give: they become parts of files' names.
Name = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,47}\Z")]
#: The highest runs first; what a person asks for goes before what a schedule does.
BY_HAND, BY_ITSELF = 10, 0


class RunRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What somebody, or something, wants to be run.

    Attributes:
        kind: of run, see `cycle.KINDS`.
        spec: what its steps are told: the training's request, the experiment's, and so on.
        priority: the highest begin first; those of one priority in the order of their submission.
        trigger: schedule, drift, decay, data, hand or rollback.
        trigger_key: the same one is submitted once only, ever; "" is never the same.
        reason, by: why, and who wanted it.
    """

    kind: str = "cycle"
    spec: dict[str, Any] = {}
    priority: Annotated[int, Meta(ge=-100, le=100)] = BY_ITSELF
    trigger: str = "hand"
    trigger_key: str = ""
    reason: str
    by: str


class Run(Struct, frozen=True, kw_only=True):
    """One run; times are seconds since 1970, of PostgreSQL's clock.

    Attributes:
        id: of it.
        request: what was wanted.
        state, step, verdict, why: where it stands; `why` in words, "" while there is nothing to say.
        fence: how many attempts were begun so far.
        lease_until_s: until when the worker of the current attempt is believed to live; None where nobody works.
        not_before_s: when its step may begin.
        divisor: batches are this many times smaller than asked, since memory ran out.
        cancelled: why somebody wants it to end; "" where nobody does.
        outputs: step -> what it gave.
        progress: what its step is doing, done, of how much; empty where it says nothing.
        submitted_s, ended_s: when.
    """

    id: str
    request: RunRequest
    state: RunState
    step: str
    verdict: Verdict
    why: str
    fence: int
    lease_until_s: float | None
    not_before_s: float
    divisor: int
    cancelled: str
    outputs: dict[str, Any]
    progress: dict[str, Any]
    submitted_s: float
    ended_s: float | None


class Attempt(Struct, frozen=True, kw_only=True):
    """One try at a step.

    Attributes:
        run, fence: whose, and which.
        step: that is tried.
        pool: of machines whose memory it takes, see `admission`.
        reference: where it runs, as its executor calls it; "" before it was started.
        holder: who started it, see `Executor.holder`.
        memory_mb, gpu_mb: that are kept free for it.
        started_s, ended_s: when; `ended_s` is None while its process may live.
        end: what it came to; None while nobody knows.
        exit_code, peak_mb: of its process; None where nobody saw.
        why: in words.
    """

    run: str
    fence: int
    step: str
    pool: str
    reference: str
    holder: str
    memory_mb: int
    gpu_mb: int
    started_s: float
    ended_s: float | None
    end: StepEnd | None
    exit_code: int | None
    peak_mb: int | None
    why: str


class HistoryLine(Struct, frozen=True):
    """Something that happened: to a run, or "" for what happened to none; see `store.history`."""

    at_s: float
    run: str
    what: str
    by: str
    detail: str

"""A run as a state machine: which steps each kind of run has, in which order, and what follows what became of
one.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from trading.errors import ConfigurationError


class RunState(StrEnum):
    """READY: its step waits for a worker. RUNNING: a worker has the lease. ENDED: for good, see its verdict."""

    READY = "ready"
    RUNNING = "running"
    ENDED = "ended"


class Verdict(StrEnum):
    """What a run came to; NONE while it has not ended."""

    NONE = ""
    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepEnd(StrEnum):
    """What an attempt at a step came to.

    DONE: the next one follows. REJECTED: evidence speaks against the model. FAILED: it cannot be done, again
    neither. AGAIN: it is tried again, later. LOST: nobody heard of it any more. CANCELLED: somebody wanted so.
    """

    DONE = "done"
    REJECTED = "rejected"
    FAILED = "failed"
    AGAIN = "again"
    LOST = "lost"
    CANCELLED = "cancelled"


#: What puts things back: it follows a rejection, a failure and a cancellation wherever something was begun that
#: others can see.
REJECT = "reject"
#: Exit code of a step's process that left, since another has taken over or it could not say that it lives.
OVERTAKEN = 75
#: Kind of run -> its steps.
KINDS: dict[str, tuple[str, ...]] = {
    "cycle": (
        "collect", "build", "train", "gates", "export", "verify", "release", "shadow", "canary", "promote",
    ),
    "update": (
        "collect", "ripen", "update", "gates", "export", "verify", "release", "shadow", "canary", "promote",
    ),
    "training": ("collect", "build", "train", "gates"),
    "trial": ("trial",),
    "check": ("collect", "assess"),
    "guard": ("watch",),
}  # fmt: skip
#: From these on others see what a run does: an experiment that runs must be stopped, versions must say what they
#: are.
SEEN_FROM = frozenset({"gates", "watch"})
#: These change nothing that others see but for the better: what bounds trainings does not bound them.
LOOKING_ON = frozenset({"check", "guard"})


#: Of these one at a time is begun by itself: each divides the desk's units with the champion, and changes it.
PROMOTING = frozenset(kind for kind, steps in KINDS.items() if "promote" in steps)


class Transition(Struct, frozen=True):
    """What follows: the state, the step, the verdict that holds or will hold, and whether a worker may begin
    now.
    """

    state: RunState
    step: str
    verdict: Verdict


def steps_of(kind: str) -> tuple[str, ...]:
    """Its steps, in order. Raises ConfigurationError for a kind that there is not."""
    try:
        return KINDS[kind]
    except KeyError:
        raise ConfigurationError(f"{kind!r} is no kind of run: there are {', '.join(KINDS)}") from None


def first_step(kind: str) -> str:
    """Where a run begins. Raises ConfigurationError."""
    return steps_of(kind)[0]


def is_seen(kind: str, step: str) -> bool:
    """Whether at this step there may be something of the run that others see."""
    steps = steps_of(kind)
    return step in steps and not SEEN_FROM.isdisjoint(steps[: steps.index(step) + 1])


def after(kind: str, step: str, verdict: Verdict, end: StepEnd) -> Transition:
    """What follows an attempt's end.

    Args:
        kind: of the run.
        step: that was tried.
        verdict: that holds already: at `reject` it says why one is there.
        end: of the attempt.

    Raises:
        ConfigurationError: the kind has no such step.
    """
    steps = steps_of(kind)
    if step == REJECT:
        return _after_reject(verdict, end)
    if step not in steps:
        raise ConfigurationError(f"{step!r} is no step of a {kind}: there are {', '.join(steps)}")
    if end in {StepEnd.AGAIN, StepEnd.LOST}:
        return Transition(RunState.READY, step, Verdict.NONE)
    if end is StepEnd.DONE:
        rest = steps[steps.index(step) + 1 :]
        if rest:
            return Transition(RunState.READY, rest[0], Verdict.NONE)
        return Transition(RunState.ENDED, step, Verdict.SUCCEEDED)
    found = {
        StepEnd.REJECTED: Verdict.REJECTED, StepEnd.FAILED: Verdict.FAILED, StepEnd.CANCELLED: Verdict.CANCELLED,
    }[end]  # fmt: skip
    if is_seen(kind, step):
        return Transition(RunState.READY, REJECT, found)
    return Transition(RunState.ENDED, step, found)


def _after_reject(verdict: Verdict, end: StepEnd) -> Transition:
    """Putting back is tried until it is done; only what cannot be done at all ends it."""
    if end is StepEnd.DONE:
        return Transition(RunState.ENDED, REJECT, verdict)
    if end is StepEnd.FAILED:
        return Transition(RunState.ENDED, REJECT, Verdict.FAILED)
    return Transition(RunState.READY, REJECT, verdict)

"""A step, in its own process: it says that it lives, works, and tells what it came to, all with its fence.

What cannot be told within its lease is not true any more: another may have begun the same step by then. So a step
that cannot renew its lease ends itself.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from trading.errors import BadRecord, ServiceUnavailable, UltraThinkError
from trainers.memory_budget import is_out_of_memory, peak_bytes
from trainers.orchestrator.cycle import OVERTAKEN, RunState, StepEnd
from trainers.orchestrator.runs import Run, RunRequest
from trainers.orchestrator.store.runs import LEASE_S, RunStore
from trainers.orchestrator.store.transitions import Ended

#: What was told was that it failed.
FAILED = 1
#: Whoever looked this much later than he meant to stood still, and has so long to say that he lives.
STILL_S, WAKING_S = 2.0, 5.0
AGAIN_S = 0.5
#: How far a step is, is told so often at most.
TELL_S = 0.5


class StepRejected(UltraThinkError):
    """Evidence speaks against the model: the run goes no further, and nothing is tried again."""


class NotYet(UltraThinkError):
    """It cannot be done now, and is nobody's fault: it is tried again.

    Attributes:
        again_s: when.
    """

    def __init__(self, message: str, again_s: float) -> None:
        super().__init__(message)
        self.again_s = again_s


class StepContext:
    """What a step works with.

    Attributes:
        run: whose it is.
        fence: of this attempt.
    """

    def __init__(self, run: Run, fence: int, runs: RunStore, lease_s: float = LEASE_S) -> None:
        """Nothing is said yet; `lease_s` is how long this attempt is believed to live without a word."""
        self.run, self.fence = run, fence
        self._runs, self._lease_s = runs, lease_s
        self._progress: dict[str, Any] = {}
        self._fresh = False
        self._over = threading.Event()
        self._heard_s = time.monotonic()

    @property
    def spec(self) -> Mapping[str, Any]:
        """What the run was asked to do."""
        return self.run.request.spec

    def output(self, step: str) -> Any:
        """What an earlier step gave; None where it gave nothing."""
        return self.run.outputs.get(step)

    def begin(self, request: RunRequest) -> str:
        """Have another run follow from this one; its id, the same however often it is asked with one trigger key.

        Raises:
            ConfigurationError: there is no such kind.
            ServiceUnavailable: PostgreSQL does not answer.
        """
        return self._runs.submit(request)[0].id

    def attempts(self) -> int:
        """At this step, with this one. Raises ServiceUnavailable."""
        return sum(one.step == self.run.step for one in self._runs.attempts(self.run.id))

    def progress(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Say how far it is; told within a second. A total of 0 is unknown."""
        self._progress, self._fresh = {"stage": stage[:200], "done": done, "total": total}, True

    def check(self) -> None:
        """Make sure, before something that others see, that no other works on this step: else this process ends.

        Raises ServiceUnavailable where nobody can tell.
        """
        self._fresh, asked_s = False, time.monotonic()
        if not self._runs.renew(self.run.id, self.fence, self._lease_s, self._progress or None):
            leave("another works on this step now")
        self._heard_s = asked_s

    def keep(self) -> None:
        """Renew the lease until `over`: the work of a thread of its own."""
        while not self._over.wait(TELL_S):
            if not self._fresh and time.monotonic() - self._heard_s < self._lease_s / 4:
                continue
            try:
                self.check()
            except Exception as error:  # noqa: BLE001 - nobody would notice that this thread has ended
                say(f"the lease was not renewed: {error}")

    def watch(self) -> None:
        """End this process once its lease is over, whatever keeps it from being renewed: a hanging server, too."""
        ticked_s, woke_s, woke_for = time.monotonic(), -math.inf, -math.inf
        while not self._over.wait(TELL_S):
            now_s = time.monotonic()
            if now_s - ticked_s > STILL_S and woke_for != self._heard_s:
                # It stood still, and its lease was renewed for it; once, until it is heard of itself.
                woke_s, woke_for = now_s, self._heard_s
            ticked_s = now_s
            if now_s - self._heard_s > self._lease_s and now_s - woke_s > WAKING_S:
                leave("the lease could not be renewed, and is over")

    def over(self) -> None:
        """The work is done: the lease is not renewed any more."""
        self._over.set()

    def tell(self, ended: Ended) -> bool:
        """What it came to; false where another has taken over meanwhile. PostgreSQL that is away is waited for."""
        while True:
            try:
                return self._runs.finish(self.run.id, self.fence, ended, f"step {os.getpid()}")
            except ServiceUnavailable as error:
                say(f"waits to tell: {error}")
                time.sleep(AGAIN_S)
            except BadRecord as error:
                say(f"what it came to cannot be kept: {error}")
                ended = Ended(end=StepEnd.FAILED, why="what it came to cannot be kept: its log says why")


def run_step(
    runs: RunStore, run: str, fence: int, steps: Mapping[str, Callable[[StepContext], Any]], reference: str = ""
) -> int:
    """Do the step that a run stands at, and tell what it came to; the exit code of the process.

    Args:
        runs: the store.
        run: its id.
        fence: of the attempt that was begun.
        steps: what to do, by the step's name.
        reference: by which this process can be found, if it knows: whoever started it may have been killed before
            he wrote that down.

    Raises:
        ConfigurationError: there is no such run.
        ServiceUnavailable: PostgreSQL does not answer.
    """
    one = runs.get(run)
    context = StepContext(one, fence, runs)
    if one.state is not RunState.RUNNING or one.fence != fence:
        say("another works on this step, or it is done")
        return OVERTAKEN
    context.check()
    if reference:
        runs.started(run, fence, reference)
    for work in (context.keep, context.watch):
        threading.Thread(target=work, name="lease", daemon=True).start()
    ended = worked(context, steps)
    told = context.tell(ended)
    context.over()
    if not told:
        say("another has taken over: what this attempt came to changes nothing")
        return OVERTAKEN
    return 0 if ended.end in {StepEnd.DONE, StepEnd.REJECTED} else FAILED


def worked(context: StepContext, steps: Mapping[str, Callable[[StepContext], Any]]) -> Ended:
    """What a step came to, whatever it raised."""
    step = context.run.step
    if step not in steps:
        return Ended(end=StepEnd.FAILED, why=f"this version knows no step {step!r}")
    try:
        output = steps[step](context)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        found = came_to(error)
    else:
        found = Ended(end=StepEnd.DONE, output=output)
    return replace(found, peak_mb=peak_bytes() // 2**20)


def came_to(error: Exception) -> Ended:
    """What a step came to that raised this."""
    if isinstance(error, StepRejected):
        return Ended(end=StepEnd.REJECTED, why=str(error))
    if isinstance(error, NotYet):
        return Ended(end=StepEnd.AGAIN, why=str(error), again_s=error.again_s, patient=True)
    if isinstance(error, UltraThinkError):
        say(str(error))
    else:
        traceback.print_exception(error)
    if is_memory(error):
        why = f"memory ran out: {str(error)[:200] or type(error).__name__}"
        return Ended(end=StepEnd.AGAIN, why=why, halve=True, again_s=0.0)
    if isinstance(error, ServiceUnavailable):
        return Ended(end=StepEnd.AGAIN, why=str(error), patient=True)
    if isinstance(error, UltraThinkError):
        return Ended(end=StepEnd.FAILED, why=str(error))
    return Ended(end=StepEnd.AGAIN, why=f"{type(error).__name__}: {str(error)[:300]}")


def is_memory(error: BaseException) -> bool:
    """Whether memory ran out, or something says so of what it tried."""
    found: BaseException | None = error
    while found is not None:
        if is_out_of_memory(found) or type(found).__name__ == "DoesNotFit":
            return True
        found = found.__cause__
    return False


def leave(why: str) -> None:
    """End this process now: whatever it is about to do is not its to do."""
    try:
        say(why)
    finally:
        os._exit(OVERTAKEN)


def say(text: str) -> None:
    """A line in the step's log."""
    # A full disk keeps nobody from ending, or from saying that he lives.
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

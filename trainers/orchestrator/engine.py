"""Moves runs on: wakes what may begin, starts it, watches it, and finds again what nobody heard of any more.

The sweep is what may be relied on: each second it looks at PostgreSQL for whatever nobody works on. The queue is
only quicker, and reaches workers of other machines.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import structlog
from msgspec.structs import replace

from connectors.job_queue import JobQueue
from trading.errors import ConfigurationError, ServiceUnavailable, UltraThinkError
from trainers import memory_budget
from trainers.orchestrator.cycle import OVERTAKEN, REJECT, RunState, StepEnd
from trainers.orchestrator.ports import Executor, Seen, StepTask
from trainers.orchestrator.runs import Attempt, Run
from trainers.orchestrator.store.runs import LEASE_S, Refused, RunStore
from trainers.orchestrator.store.transitions import Ended, goes_first, need_of, usual_need, yields

log = structlog.get_logger()
SWEEP_S, LOOK_S = 1.0, 0.25
#: Where another machine's worker is not heard of, its step has ended itself by then: it knows when its lease is
#: over.
GRACE_S = LEASE_S
#: A process that was started says for the first time that it lives within so long.
START_S = 30.0
#: How often it is asked whether a step that lives is still wanted.
ASK_S = 1.0
#: A cluster fetches an image, and finds a node, within so long.
MOST_START_S = 1_800.0
#: Whoever has not looked for so long hangs.
HUNG_S = 30.0
#: A step that has told its end, or was overtaken, has so long to leave by itself.
LEAVE_S = 10.0
#: Jobs that are handed over at once: each begins a step, and is over.
BEGINNING = 2


class Engine:
    """Begins and watches steps.

    Attributes:
        still: references of steps that stand still because somebody here wants so.
    """

    def __init__(
        self,
        runs: RunStore,
        queue: JobQueue,
        executor: Executor,
        name: str,
        observe: Callable[[Ended], None] = lambda _: None,
        lease_s: float = LEASE_S,
    ) -> None:
        """Nothing is begun yet.

        Args:
            runs: the store.
            queue: what wakes workers.
            executor: starts steps.
            name: of this process, on record.
            observe: told of attempts that did not tell their end themselves.
            lease_s: see `LEASE_S`.
        """
        self._runs, self._queue, self._executor, self._name, self._lease_s = runs, queue, executor, name, lease_s
        self._observe = observe
        #: Run and fence -> whether it yields to the desk, and its reference.
        self._watched: dict[tuple[str, int], tuple[bool, str]] = {}
        #: Run and fence of attempts that are about to be watched.
        self._begun: set[tuple[str, int]] = set()
        self._swept_s = time.monotonic()
        self._problem = "it has not looked yet"
        self.still: set[str] = set()
        self._lock, self._stopping = threading.Lock(), threading.Event()
        self._watchers: set[threading.Thread] = set()
        #: Steps of other machines whose lease is over: since when, s of this process' clock.
        self._silent: dict[tuple[str, int], float] = {}

    def run(self, stopping: threading.Event, each: Callable[[], None]) -> None:
        """Until told to stop; steps that run go on, and are found again by whoever comes next.

        Args:
            stopping: ends it.
            each: done with every sweep: what is due, and what fires.
        """
        serving = threading.Thread(
            target=self._queue.serve, args=(self.begin, BEGINNING, stopping), name="queue", daemon=True
        )
        serving.start()
        while not stopping.is_set():
            told = "" if serving.is_alive() else "the queue's thread has ended"
            problem = "; ".join(why for why in (tried(self.sweep), tried(each), told) if why)
            if problem and problem != self._problem:
                log.warning("a sweep was not done", reason=problem)
            self._problem, self._swept_s = problem, time.monotonic()
            stopping.wait(SWEEP_S)
        self._stopping.set()
        for thread in list(self._watchers):
            thread.join(LOOK_S * 4)
        serving.join(LEAVE_S)

    def yielding(self) -> list[str]:
        """References of the steps that this process watches, of those that yield to the desk."""
        with self._lock:
            return [reference for does, reference in self._watched.values() if does]

    @property
    def problem(self) -> str:
        """Why runs are not looked at, or not all that is due is done; "" while both are."""
        silent_s = time.monotonic() - self._swept_s
        return f"it has not looked at its runs for {silent_s:.0f} s" if silent_s > HUNG_S else self._problem

    # ---- sweeping ----

    def sweep(self) -> None:
        """Find again what nobody watches, and wake what may begin. Raises ServiceUnavailable."""
        for attempt, holds in self._runs.living():
            key = attempt.run, attempt.fence
            with self._lock:
                is_watched = key in self._watched or key in self._begun
            if not is_watched and (why := tried(partial(self._find, attempt, holds=holds))):
                # One that cannot be put in order keeps no other from it.
                log.warning("an attempt was not found again", run=attempt.run, reason=why)
        self._wake()

    def _wake(self) -> None:
        """Wake who may begin: the first whose turn it is, and those that only look on, who have no turn."""
        waiting = self._runs.waiting()
        heads = [*waiting[:1], *(run for run in waiting[1:] if goes_first(run))]
        self._queue.put([(run.id, f"{run.id}/{run.fence}", run.request.priority) for run in heads])

    def _find(self, attempt: Attempt, *, holds: bool) -> None:
        """An attempt that another process began: this machine's is watched, or ended; another's is waited for."""
        key = attempt.run, attempt.fence
        is_held = attempt.holder != self._executor.holder and self._executor.is_held(attempt.holder)
        if is_held and (holds or self._silent_s(key) < GRACE_S):
            # Another orchestrator of this machine lives, and watches it; unless it hangs.
            if holds:
                self._silent.pop(key, None)
            return
        if attempt.reference and self._executor.owns(attempt.reference):
            if holds and self._executor.look(attempt.reference).lives:
                log.info("a step was found again", run=attempt.run, step=attempt.step)
                self._executor.adopt(attempt)
                # Whoever had it stand still is gone.
                self._executor.pause(attempt.reference, paused=False)
                self._watch(self._runs.get(attempt.run), attempt, attempt.reference)
                return
            # Whoever watched it is gone, and so is its lease, or itself.
            self._executor.stop(attempt.reference)
            self._lose(attempt, "nobody heard of it any more")
        elif holds:
            self._silent.pop(key, None)
        elif not attempt.reference or self._silent_s(key) > GRACE_S:
            self._silent.pop(key, None)
            self._lose(attempt, "whoever began it was not heard of any more")

    def _silent_s(self, key: tuple[str, int]) -> float:
        """For how long an attempt's lease has been over, as far as this process has seen."""
        return time.monotonic() - self._silent.setdefault(key, time.monotonic())

    def _lose(self, attempt: Attempt, why: str) -> None:
        ended = Ended(end=StepEnd.LOST, why=why)
        try:
            if self._runs.finish(attempt.run, attempt.fence, ended, self._name):
                self._observe(ended)
        finally:
            self._runs.gone(attempt.run, attempt.fence)

    # ---- beginning ----

    def begin(self, run: str) -> None:
        """Begin a run's step, if it is its turn: called for each job of the queue."""
        if not self._stopping.is_set() and (why := tried(partial(self._begin, run))):
            log.warning("a step was not begun: the next sweep sees to it", run=run, reason=why)

    def _begin(self, run: str) -> None:
        executor = self._executor
        claimed = self._runs.claim(run, executor.pool, START_S, (self._name, executor.holder), executor.free_mb())
        if isinstance(claimed, Refused):
            return
        one, attempt = claimed
        key = attempt.run, attempt.fence
        # A step says itself where it runs, perhaps before this process watches it.
        with self._lock:
            self._begun.add(key)
        try:
            self._start(one, attempt)
        finally:
            with self._lock:
                self._begun.discard(key)
        self._wake()

    def _start(self, run: Run, attempt: Attempt) -> None:
        try:
            reference = self._executor.start(StepTask(run.id, attempt.fence, attempt.step, need_of(run)))
        except UltraThinkError as error:
            # A full disk, or a cluster that is away, is no fault of the run's.
            ended = Ended(end=StepEnd.AGAIN, why=str(error), patient=True)
            self._runs.finish(run.id, attempt.fence, ended, self._name)
            self._runs.gone(run.id, attempt.fence)
            return
        log.info("a step began", run=run.id, step=attempt.step, fence=attempt.fence)
        # Watched before it is on record: nobody else looks at it then as at one that nobody watches.
        self._watch(run, attempt, reference)
        self._runs.started(run.id, attempt.fence, reference)

    # ---- watching ----

    def _watch(self, run: Run, attempt: Attempt, reference: str) -> None:
        with self._lock:
            self._watched[attempt.run, attempt.fence] = yields(run), reference
        thread = threading.Thread(
            target=partial(self._until_gone, run, attempt, reference), name=f"watch-{attempt.run}", daemon=True
        )
        self._watchers.add(thread)
        thread.start()

    def _until_gone(self, run: Run, attempt: Attempt, reference: str) -> None:
        key = attempt.run, attempt.fence
        try:
            seen = self._look_on(run, attempt, reference)
            if seen is not None:
                self._ended(run, attempt, seen)
        except Exception:
            # It is found again by the sweep.
            log.exception("a step is not watched any more", run=attempt.run, step=attempt.step)
        finally:
            with self._lock:
                self._watched.pop(key, None)
                self._silent.pop(key, None)
            self._watchers.discard(threading.current_thread())

    def _look_on(self, run: Run, attempt: Attempt, reference: str) -> Seen | None:
        """How it ended; None where this process ends first."""
        most_s, looked_s = usual_need(run).most_s, time.monotonic()
        late_s = looked_s + most_s - (time.time() - attempt.started_s)
        over = ""
        while not self._stopping.wait(LOOK_S):
            try:
                seen = self._executor.look(reference)
                if not seen.lives:
                    return replace(seen, why=over or seen.why)
                now_s = time.monotonic()
                if not over and now_s - looked_s > ASK_S:
                    looked_s = now_s
                    late = f"it took longer than {most_s:,} s" if now_s > late_s else ""
                    over = late or self._over(attempt, reference, seen)
                if over:
                    self._executor.stop(reference)
            except ServiceUnavailable as error:
                log.warning("a step cannot be looked at", run=attempt.run, reason=str(error))
        return None

    def _over(self, attempt: Attempt, reference: str, seen: Seen) -> str:
        """Why a step that lives must be ended; "" where it goes on. Raises ServiceUnavailable."""
        standing = self._runs.standing(attempt.run, attempt.fence)
        if not standing.is_ours:
            # It has told its end, or was overtaken, and leaves by itself.
            silent_s = self._silent_s((attempt.run, attempt.fence))
            return "" if silent_s < LEAVE_S else "it did not leave"
        if standing.cancelled and attempt.step != REJECT:
            return "it was cancelled"
        waits = not seen.began and time.time() - attempt.started_s < MOST_START_S
        if waits or reference in self.still:
            # It cannot say so itself.
            self._runs.renew(attempt.run, attempt.fence, self._lease_s)
            return ""
        return "" if standing.holds else f"it said nothing for {self._lease_s:.0f} s"

    def _ended(self, run: Run, attempt: Attempt, seen: Seen) -> None:
        """A process has ended: what it did not tell itself is told for it."""
        while True:
            try:
                now = self._runs.get(attempt.run)
                if now.state is RunState.RUNNING and now.fence == attempt.fence:
                    ended = explain(attempt, seen, self._last_words(attempt))
                    log.warning("a step ended", run=run.id, step=attempt.step, end=str(ended.end), why=ended.why)
                    if self._runs.finish(attempt.run, attempt.fence, ended, self._name):
                        self._observe(ended)
                self._runs.gone(attempt.run, attempt.fence, seen.exit_code, seen.peak_mb)
            except ServiceUnavailable as error:
                log.warning("a step's end cannot be kept yet", run=run.id, reason=str(error))
                if self._stopping.wait(SWEEP_S):
                    return
                continue
            except ConfigurationError:
                # Somebody deleted the run, or it is of a version that is not known here.
                tried(partial(self._runs.gone, attempt.run, attempt.fence, seen.exit_code, seen.peak_mb))
                return
            # What it took is free: who waits for that is woken at once, and not by the next sweep.
            tried(self._wake)
            return

    def _last_words(self, attempt: Attempt) -> str:
        try:
            lines = [line for line in self._executor.log(attempt.run, attempt.fence) if line.strip()]
        except UltraThinkError:
            return ""
        return lines[-1][:300] if lines else ""


def tried(work: Callable[[], None]) -> str:
    """Do it; why it was not done, "" where it was. One thing that cannot be done keeps nobody from another."""
    try:
        work()
    except UltraThinkError as error:
        return str(error)
    return ""


def explain(attempt: Attempt, seen: Seen, last: str) -> Ended:
    """What became of an attempt whose process ended without telling.

    Args:
        attempt: of which.
        seen: of its process.
        last: line that it printed.
    """
    peak = (seen.peak_mb or 0) * 2**20
    code = seen.exit_code
    also = f" ({seen.why})" if seen.why else ""
    if code in {-9, 137}:
        if seen.out_of_memory is not False:
            why = memory_budget.explain_exit(137, peak, attempt.memory_mb * 2**20)
            return Ended(
                end=StepEnd.AGAIN, why=f"{why}{also}", exit_code=137, peak_mb=seen.peak_mb, halve=True, again_s=0
            )
        why = "killed (exit 137), and the kernel ended nothing for want of memory: somebody ended it"
        return Ended(end=StepEnd.LOST, why=why, exit_code=137, peak_mb=seen.peak_mb)
    if seen.why.startswith("it took longer"):
        return Ended(end=StepEnd.AGAIN, why=seen.why, exit_code=code, peak_mb=seen.peak_mb)
    if code in {None, 0, OVERTAKEN}:
        left = f"it left{f': {last}' if last else ''}" if code == OVERTAKEN else f"it ended without a word{also}"
        return Ended(end=StepEnd.LOST, why=left, exit_code=code, peak_mb=seen.peak_mb)
    if code < 0:
        return Ended(end=StepEnd.LOST, why=f"ended by signal {-code}{also}", exit_code=code, peak_mb=seen.peak_mb)
    return Ended(end=StepEnd.AGAIN, why=f"exit {code}{also}{f': {last}' if last else ''}", exit_code=code,
                 peak_mb=seen.peak_mb)  # fmt: skip

"""One experiment watched for as long as it runs: its blocks are counted, and harm puts the champion back.

A canary is watched from two sides, each by a thread of its own: the desk's waits for no model, the shadow's does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

import structlog
from msgspec import Struct

from services.experiments.block_run import BlockRun, CheckpointRefused
from services.experiments.checkpoints import CheckpointStore
from services.experiments.observing import ExperimentMetrics
from services.experiments.ports import ExperimentControl, ExperimentJournal
from trading.errors import ServiceUnavailable, UltraThinkError
from trading.experiments.assignment import CanaryArms
from trading.experiments.register import Experiment, ExperimentState, start_of

T = TypeVar("T")
log = structlog.get_logger()
POLL_S = 0.2
#: One that could not begin, or broke off, is begun again after so long.
AGAIN_S = 5.0
#: A stop that did not reach the log is written again: stopping must not fail.
STOP_AGAIN_S = 0.2
#: A whole evaluation is made so often at the most, and takes a tenth of the time at the most.
EVALUATED_S, EVALUATED_SHARE = 2.0, 0.1
#: Guardrails are looked at with every block, as long as that takes a quarter of the time at most.
LOOK_SHARE = 0.25
#: Where it stands is kept in a tenth of the time at most.
KEPT_SHARE = 0.1
#: Challengers that have a share, and are watched by nobody, lose it after so long.
UNWATCHED_S = 60.0


class Opening(Struct, Generic[T], frozen=True):
    """What a run is opened for.

    Attributes:
        experiment: as it stands.
        resumed: where its checkpoint stood; None to begin from its start.
        since_ns: of its start, by the brokers' clock, ns since 1970.
        arms: how its units are divided by now.
        runs: whether it still runs by now.
        is_over: whether it is to be watched no longer: it was stopped, or its process ends.
    """

    experiment: Experiment
    resumed: T | None
    since_ns: int
    arms: Callable[[], CanaryArms]
    runs: Callable[[], bool]
    is_over: Callable[[], bool]


class Side(Struct, Generic[T], frozen=True):
    """Where an experiment is looked at.

    Attributes:
        where: `shadow`, beside the desk; `desk`, by what a canary's arms decide on it.
        opened: opens a run. Raises UltraThinkError.
        store: where its runs are kept.
    """

    where: str
    opened: Callable[[Opening[T]], AbstractContextManager[BlockRun[Any, T]]]
    store: CheckpointStore[T]


class WatcherParts(Struct, frozen=True):
    """What every watcher needs of the world."""

    control: ExperimentControl
    journal: ExperimentJournal
    metrics: ExperimentMetrics
    keep_s: float


class Watcher(Generic[T]):
    """Watches one side of an experiment from one start to its stop.

    Attributes:
        started: offset of the command that it was started by.
        problem: why it is not watched now; "" where it is.
    """

    def __init__(
        self, experiment: Experiment, side: Side[T], parts: WatcherParts, stopping: threading.Lock
    ) -> None:
        """Nothing was begun yet.

        Args:
            experiment: as it stands.
            side: from where it is watched.
            parts: of the world.
            stopping: held by whoever stops it: the other side need not do so again.
        """
        name = f"experiment {experiment.definition.name} {side.where}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._experiment, self._side, self._parts, self._stopping = experiment, side, parts, stopping
        self._definition, self.started = experiment.definition, start_of(experiment)
        self._ending = threading.Event()
        self._seen, self._kept_s, self._evaluated_s, self._evaluate_every_s = 0, 0.0, 0.0, EVALUATED_S
        self._verdicts: dict[str, str] = {}
        self._kept_rows, self._keep_every_s = -1, parts.keep_s
        self._is_anew = False
        self._unwatched_since_s: float | None = None
        self._look_at_s = 0.0
        self.problem = "it is being opened"

    def start(self) -> None:
        """Begin to watch, in a thread."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether it watches, or tries to."""
        return self._thread.is_alive()

    def end(self, timeout_s: float) -> None:
        """Keep where it stands, and end; waits so long at most."""
        self._ending.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        """Watch until it is stopped, or `end` is called; what breaks off is begun again from its checkpoint."""
        while self._goes_on():
            try:
                self._watch()
            except CheckpointRefused as error:
                # A server that is away is no reason to forget what was counted; this is.
                self._is_anew = True
                self._is_problem(str(error))
                continue
            except UltraThinkError as error:
                self._is_problem(str(error))
            except Exception as error:
                log.exception("an experiment's watcher failed", experiment=self._definition.name)
                self._is_problem(f"{type(error).__name__}: {error}")
            else:
                return
            self._ending.wait(AGAIN_S)

    def _is_problem(self, problem: str) -> None:
        name = self._definition.name
        if not self._goes_on():
            # Nobody is to watch it: whatever broke off was told to.
            return
        log.warning("an experiment is not watched", experiment=name, where=self._side.where, reason=problem)
        self.problem = problem
        self._parts.metrics.watched(name, self._side.where, watched=False)
        now, now_s = self._now(), time.monotonic()
        since_s = self._unwatched_since_s = self._unwatched_since_s or now_s
        if now is not None and now.share > 0.0 and now_s - since_s > UNWATCHED_S:
            # Harm would be seen by nobody, or has been: whoever answers no watcher answers no gateway.
            self._put_back(f"nobody could watch it for {UNWATCHED_S:.0f} s: {problem}", "unwatched")

    def _goes_on(self) -> bool:
        now = self._now()
        return not self._ending.is_set() and now is not None

    def _now(self) -> Experiment | None:
        """The experiment as it stands, while it runs since the same start."""
        found = self._parts.control.experiments().get(self._definition.name)
        runs = found is not None and found.state is ExperimentState.RUNNING and start_of(found) == self.started
        return found if runs else None

    def _arms(self) -> CanaryArms:
        """As the control topic has them by now; of one that was stopped, as they were."""
        self._experiment = self._now() or self._experiment
        return self._experiment.arms

    def _watch(self) -> None:
        parts, side, definition = self._parts, self._side, self._definition
        kept = None if self._is_anew else side.store.kept(definition, self.started)
        since_ns = parts.control.appended_ns(self.started)
        opening = Opening(
            self._experiment, kept, since_ns, self._arms, lambda: self._now() is not None,
            lambda: not self._goes_on(),
        )  # fmt: skip
        with side.opened(opening) as run:
            self._is_anew, self._seen = False, 0
            try:
                while self._goes_on():
                    taken = run.turn(POLL_S)
                    if isinstance(run.ended_by, ServiceUnavailable):
                        # It passes: from the last checkpoint, for nobody knows what was taken since.
                        raise run.ended_by
                    parts.metrics.behind(definition.name, side.where, run.behind_s)
                    if run.ended_by is None:
                        if run.is_heard and (taken or run.is_at_end):
                            self._is_watched()
                        self._look(run)
                    # Of what broke off in the middle of a turn nothing is kept.
                    if run.ended:
                        self._put_back(f"nobody can watch it any more: {run.ended}", "unwatched")
                        return
                self._keep(run)
            finally:
                parts.metrics.watched(definition.name, side.where, watched=False)

    def _is_watched(self) -> None:
        """Every partition was heard of, and something was taken or nothing is left: to be opened is not enough."""
        self._unwatched_since_s, self.problem = None, ""
        self._parts.metrics.watched(self._definition.name, self._side.where, watched=True)

    def _look(self, run: BlockRun[Any, T]) -> None:
        """Whatever new blocks have shown; then where it stands is kept now and then, without any, too."""
        self._judge(run)
        now_s = time.monotonic()
        if run.rows != self._kept_rows and now_s - self._kept_s > self._keep_every_s:
            is_kept = self._keep(run)
            self._kept_s = time.monotonic()
            if is_kept:
                self._kept_rows = run.rows
            # Of very many blocks it takes long.
            self._keep_every_s = max(self._parts.keep_s, (self._kept_s - now_s) / KEPT_SHARE)

    def _judge(self, run: BlockRun[Any, T]) -> None:
        seen = run.block_count
        began_s = time.monotonic()
        # Of very many blocks a look takes long: what is decided must be taken, too.
        if seen == self._seen or began_s < self._look_at_s:
            return
        reason = run.harm()
        self._parts.metrics.counted(self._definition.name, self._side.where, seen, harmed=bool(reason))
        if reason:
            # First of all: whatever comes after it may fail, or take its time.
            self._put_back(reason, "harm")
        now_s = time.monotonic()
        self._look_at_s = now_s + (now_s - began_s) / LOOK_SHARE
        if reason or now_s - self._evaluated_s > self._evaluate_every_s:
            self._tell_verdicts(run)
            self._evaluated_s = time.monotonic()
            self._evaluate_every_s = max(EVALUATED_S, (self._evaluated_s - now_s) / EVALUATED_SHARE)
        if reason:
            self._keep(run)
        self._seen = seen

    def _tell_verdicts(self, run: BlockRun[Any, T]) -> None:
        for one in run.judged():
            verdict = "does harm" if one.breached else one.verdict.value
            if verdict != self._verdicts.get(one.arm, "undecided"):
                self._note("verdict", one.sentence)
            self._verdicts[one.arm] = verdict
            self._parts.metrics.judged(self._definition.name, one)

    def _put_back(self, reason: str, why: str) -> None:
        """Put the champion back, until a human starts it again; tried until it is in the log, by whomever."""
        with self._stopping:
            self._stop(reason, why)

    def _stop(self, reason: str, why: str) -> None:
        name, is_written = self._definition.name, False
        log.warning("an experiment is stopped", experiment=name, reason=reason)
        while not is_written and self._now() is not None:
            try:
                self._parts.control.stop(name, reason)
                is_written = True
            except ServiceUnavailable as error:
                log.warning("the stop did not reach the log", experiment=name, reason=str(error))
                if self._ending.wait(STOP_AGAIN_S):
                    return
        if not is_written:
            return
        self._parts.metrics.stopped(name, why)
        self._note("stopped", reason)
        # Until it is heard back: it must not be written again.
        while not self._ending.is_set() and self._now() is not None:
            self._ending.wait(POLL_S)

    def _note(self, event: str, reason: str) -> None:
        try:
            self._parts.journal.note(self._definition.name, event, reason)
        except UltraThinkError as error:
            log.warning("what happened is not on record", experiment=self._definition.name, reason=str(error))

    def _keep(self, run: BlockRun[Any, T]) -> bool:
        """Whether it could be kept."""
        name, where = self._definition.name, self._side.where
        try:
            self._side.store.keep(self._definition, self.started, run.dump())
        except OSError as error:
            log.warning("no checkpoint could be kept", experiment=name, reason=str(error))
            self._parts.metrics.kept(name, where, kept=False)
            return False
        self._parts.metrics.kept(name, where, kept=True)
        return True

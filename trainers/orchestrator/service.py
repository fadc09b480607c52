"""What is done with every sweep: slots that are due, what fires, whether training stands still, what is deleted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from msgspec import Struct

from trading.errors import BadRecord, ConfigurationError, UltraThinkError
from trainers.orchestrator.engine import Engine
from trainers.orchestrator.observing import OrchestratorMetrics
from trainers.orchestrator.ports import Desk, Executor, Keeping, Sensor
from trainers.orchestrator.settings import OrchestratorSettings
from trainers.orchestrator.store import Store
from trainers.orchestrator.yielding import Yielding

log = structlog.get_logger()
#: How often sensors look, and what is old is deleted.
SENSE_S, FORGET_S = 5.0, 3600.0


class Surroundings(Struct, frozen=True):
    """What the orchestrator has to do with: see the ports.

    Attributes:
        executor: starts steps.
        sensors: tell what may begin a run.
        desk: that steps yield to; None where there is none.
        keeping: knows whose models serve, or served; None: nothing is ever deleted.
    """

    executor: Executor
    sensors: Sequence[Sensor] = ()
    desk: Desk | None = None
    keeping: Keeping | None = None


class Chores:
    """Done with every sweep of the engine.

    Attributes:
        unseen: why sensors cannot look, by their number, and schedules not be read, by their name.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        around: Surroundings,
        settings: OrchestratorSettings,
        metrics: OrchestratorMetrics,
    ) -> None:
        """Nothing is done yet. Raises ConfigurationError where the policy is none."""
        self._store, self._engine, self._around, self._settings = store, engine, around, settings
        self._metrics, self._policy = metrics, settings.policy()
        self._yielding = Yielding(settings.yielding())
        self._sensed_s, self._forgot_s = -SENSE_S, time.monotonic()
        self.unseen: dict[int | str, str] = {}

    @property
    def paused(self) -> str:
        """Why steps stand still; "" where they do not."""
        return self._yielding.why

    def do(self) -> None:
        """All of it. Raises UltraThinkError where PostgreSQL does not answer, or holds what is not known."""
        now = self._store.database.now()
        self._yield()
        for name in self._store.schedules.names():
            try:
                self._store.schedules.decide(name, now, self._policy)
                self.unseen.pop(name, None)
            except (BadRecord, ConfigurationError) as error:
                # Of a newer version, perhaps: it begins nothing, and keeps no other from it.
                self.unseen[name] = str(error)
        if time.monotonic() - self._sensed_s >= SENSE_S:
            self._sensed_s = time.monotonic()
            self._sense(now)
        if time.monotonic() - self._forgot_s >= FORGET_S:
            self._forgot_s = time.monotonic()
            self._forget()
        pool = self._around.executor.pool
        self._metrics.stands(
            self._store.history.counts(), pool, self._store.runs.taken(pool.name), paused=bool(self.paused)
        )

    def _sense(self, now: datetime) -> None:
        for k, sensor in enumerate(self._around.sensors):
            try:
                happened = sensor.look(now)
                self.unseen.pop(k, None)
            except UltraThinkError as error:
                # What cannot be seen begins nothing.
                if self.unseen.get(k) != str(error):
                    log.warning("a sensor cannot look", sensor=type(sensor).__name__, reason=str(error))
                self.unseen[k] = str(error)
                continue
            for one in happened:
                told = self._store.schedules.fire(one.kind, one.key, one.request, self._policy, now, one.detail)
                if told.run:
                    log.info("a trigger began a run", trigger=one.kind, key=one.key, run=told.run)

    def _yield(self) -> None:
        """Have steps stand still, or go on: also those that began meanwhile."""
        ours = set(self._engine.yielding())
        p99 = None if self._around.desk is None else self._around.desk.p99_ms()
        before = self._yielding.paused
        paused = self._yielding.look(p99, time.monotonic(), running=bool(ours))
        if paused != before:
            log.warning(
                "training stands still" if paused else "training goes on", why=self._yielding.why, p99_ms=p99
            )
        still = self._engine.still
        still &= ours
        for reference in ours:
            if paused != (reference in still):
                # First on record here: what stands still and is not known to would be taken for one that hangs.
                (still.add if paused else still.discard)(reference)
                self._around.executor.pause(reference, paused=paused)

    def _forget(self) -> None:
        """Delete what ended long ago and nobody needs. Raises ServiceUnavailable."""
        if self._around.keeping is None:
            return
        try:
            kept = self._around.keeping.kept()
        except UltraThinkError as error:
            log.warning("nothing old is deleted: what serves is not known", reason=str(error))
            return
        older = timedelta(days=self._settings.keep_days)
        old = self._store.history.forgettable(older, self._settings.keep_best, kept)
        for run in old:
            built = run.outputs.get("build") or {}
            if built.get("made") and not self._store.history.is_named_elsewhere(run.id, built["dataset"]):
                self._around.keeping.forget(built["dataset"])
            self._around.executor.forget(run.id)
            self._store.runs.forget(run.id)
        records = self._store.history.forget_records(older)
        if old or records:
            log.info("old runs were deleted", runs=len(old), records=records)

    def close(self) -> None:
        """Nobody is left standing still: steps outlive this process."""
        for reference in self._engine.still:
            self._around.executor.pause(reference, paused=False)

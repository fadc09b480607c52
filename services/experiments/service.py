"""Every running experiment is watched by watchers of its own; which run, the control topic says."""

from __future__ import annotations

import threading
import time
from typing import Any

import structlog
from msgspec import Struct

from services.experiments.desk_run import DeskDump
from services.experiments.running import RunDump
from services.experiments.watching import Side, Watcher, WatcherParts
from trading.errors import ServiceUnavailable
from trading.experiments.register import ExperimentState, start_of

log = structlog.get_logger()
FOLLOW_S, AWAY_S = 0.2, 1.0
#: Watchers that are told to end are waited for so long: each keeps where it stands.
END_S = 20.0


class Sides(Struct, frozen=True):
    """From where experiments are watched: each beside the desk, and a canary by the desk's own rows, too."""

    shadow: Side[RunDump]
    desk: Side[DeskDump]


class ExperimentService:
    """Begins and ends watchers."""

    def __init__(self, sides: Sides, parts: WatcherParts) -> None:
        """Nothing is watched yet."""
        self._sides, self._parts = sides, parts
        #: By the experiment's name, and from where.
        self._watchers: dict[tuple[str, str], Watcher[Any]] = {}
        self._stopping: dict[str, threading.Lock] = {}

    def run(self, stopping: threading.Event) -> None:
        """Watch until told to stop; then keep where every experiment stands."""
        try:
            while not stopping.is_set():
                try:
                    self._parts.control.follow(FOLLOW_S)
                except ServiceUnavailable as error:
                    log.warning("the control topic cannot be read", reason=str(error))
                    stopping.wait(AWAY_S)
                    continue
                self.look()
        finally:
            deadline = time.monotonic() + END_S
            for watcher in self._watchers.values():
                watcher.end(0.0)
            for watcher in self._watchers.values():
                watcher.end(max(0.0, deadline - time.monotonic()))

    def look(self) -> None:
        """Begin to watch what runs and is not watched, and let go of what does not; waits for nobody."""
        found = self._parts.control.experiments()
        running = {name: one for name, one in found.items() if one.state is ExperimentState.RUNNING}
        for (name, where), watcher in list(self._watchers.items()):
            if name not in running or watcher.started != start_of(running[name]):
                watcher.end(0.0)
            if not watcher.is_alive():
                del self._watchers[name, where]
                if name not in running:
                    self._parts.metrics.forget(name, where)
        for name, one in running.items():
            self._parts.metrics.runs(name, one.share)
            stopping = self._stopping.setdefault(name, threading.Lock())
            sides: list[Side[Any]] = [self._sides.shadow]
            # First: it needs no model, and sees harm at once.
            sides[:0] = [self._sides.desk] if one.definition.kind == "canary" else []
            for side in sides:
                if (name, side.where) not in self._watchers:
                    log.info("an experiment is watched", experiment=name, where=side.where)
                    watcher = self._watchers[name, side.where] = Watcher(one, side, self._parts, stopping)
                    watcher.start()

    def problems(self) -> dict[tuple[str, str], str]:
        """By the experiment's name, and from where: why it is not watched; "" where it is."""
        return {key: watcher.problem for key, watcher in self._watchers.items()}

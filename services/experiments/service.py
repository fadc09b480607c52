"""Every running experiment is watched by a watcher of its own; which run, the control topic says."""

from __future__ import annotations

import threading
import time

import structlog

from services.experiments.watching import Watched, Watcher, WatcherParts
from trading.errors import ServiceUnavailable
from trading.experiments.register import ExperimentState, start_of

log = structlog.get_logger()
FOLLOW_S, AWAY_S = 0.2, 1.0
#: Watchers that are told to end are waited for so long: each keeps where it stands.
END_S = 20.0


class ExperimentService:
    """Begins and ends watchers."""

    def __init__(self, parts: WatcherParts) -> None:
        """Nothing is watched yet."""
        self._parts = parts
        self._watchers: dict[str, Watcher] = {}

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
        for name, watcher in list(self._watchers.items()):
            if name not in running or watcher.started != start_of(running[name]):
                watcher.end(0.0)
            if not watcher.is_alive():
                del self._watchers[name]
                if name not in running:
                    self._parts.metrics.forget(name)
        for name, one in running.items():
            self._parts.metrics.runs(name, one.share)
            if name not in self._watchers:
                log.info("an experiment is watched", experiment=name)
                self._watchers[name] = Watcher(one, self._parts)
                self._watchers[name].start()

    def watched(self) -> dict[str, Watched]:
        """By name."""
        return {name: watcher.watched for name, watcher in self._watchers.items()}

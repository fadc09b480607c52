"""Each step of the orchestrator's runs is killed once, as the kernel or a person would."""

from __future__ import annotations

import random
import signal
import time

from msgspec import Struct

from trainers.orchestrator.cycle import KINDS, REJECT, StepEnd
from trainers.orchestrator.executors.local import is_alive, place_of, send
from trainers.orchestrator.store import Store

#: A step is killed so long after it began, at most.
LATEST_S = 2.5
WORK_ENDED = frozenset({StepEnd.DONE, StepEnd.REJECTED})
#: A watch that takes something back is followed by this.
AFTERWARDS = {"guard": (REJECT,)}


class StepKill(Struct, frozen=True):
    """A step that was killed.

    Attributes:
        run, kind, step: which.
        after_s: since it began.
        again_s: from the kill until it was begun anew; None where it was not.
        done: how often it was done in the end.
    """

    run: str
    kind: str
    step: str
    after_s: float
    again_s: float | None
    done: int

    @property
    def ok(self) -> bool:
        """It was begun anew within a minute, and done once."""
        return self.done == 1 and self.again_s is not None and self.again_s <= 60.0


class StepKills:
    """Kills, on a store whose steps run on this machine."""

    def __init__(self, store: Store, seed: int, kinds: frozenset[str]) -> None:
        """Nothing is killed yet; of these kinds of runs each step will be, once."""
        self._store, self._random, self._kinds = store, random.Random(seed), kinds
        self._due: dict[tuple[str, str], float] = {}
        #: (kind, step) -> run, fence, seconds after it began, and when.
        self._killed: dict[tuple[str, str], tuple[str, int, float, float]] = {}

    def look(self) -> None:
        """Kill what is due. Raises ServiceUnavailable."""
        for attempt, holds in self._store.runs.living():
            place = place_of(attempt.reference)
            kind = self._store.runs.get(attempt.run).request.kind
            key = (kind, attempt.step)
            if place is None or not holds or kind not in self._kinds or key in self._killed:
                continue
            after_s = self._due.setdefault(key, self._random.uniform(0.0, LATEST_S))
            lived_s = time.time() - attempt.started_s
            if lived_s >= after_s and is_alive(place) and send(place.pid, signal.SIGKILL):
                self._killed[key] = (attempt.run, attempt.fence, lived_s, time.time())

    def found(self) -> list[StepKill]:
        """What became of each. Raises ServiceUnavailable."""
        # A step that was never killed has shown nothing.
        wanted = [
            (kind, step) for kind in sorted(self._kinds) for step in (*KINDS[kind], *AFTERWARDS.get(kind, ()))
        ]
        found = [
            StepKill("", kind, step, 0.0, None, 0) for kind, step in wanted if (kind, step) not in self._killed
        ]
        for (kind, step), (run, fence, after_s, killed_s) in self._killed.items():
            attempts = [one for one in self._store.runs.attempts(run) if one.step == step]
            later = [one for one in attempts if one.fence > fence]
            again_s = round(later[0].started_s - killed_s, 1) if later else None
            # What ends a watch is a rejection where it took something back.
            done = sum(one.end in WORK_ENDED for one in attempts)
            found.append(StepKill(run, kind, step, round(after_s, 1), again_s, done))
        return found

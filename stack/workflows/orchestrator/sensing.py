"""What may begin a run by itself: new ticks of the desk's own archive, and what a check of them has found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from stack.workflows.orchestrator.asked import check, read_file, with_archive
from trading.errors import ConfigurationError
from trading.history.archive import read_head
from trainers.orchestrator.cycle import Verdict
from trainers.orchestrator.ports import Happening, Sensor
from trainers.orchestrator.runs import BY_HAND, BY_ITSELF, Run, RunRequest
from trainers.orchestrator.settings import OrchestratorSettings
from trainers.orchestrator.store import Store
from trainers.orchestrator.triggers import Kind

#: The worse one first: a model that foretells nothing any more is not helped by a small step.
FOUND: tuple[Kind, ...] = ("decay", "drift")
#: The newest of each kind that have ended.
LATEST, MOST_OPEN = 5, 1_000
#: After these runs something else decides the desk.
CHANGED = {
    ("cycle", Verdict.SUCCEEDED), ("update", Verdict.SUCCEEDED), ("guard", Verdict.REJECTED),
}  # fmt: skip
OLD_S = 3_600.0
CHECK = "check"
OpenRuns = Callable[[], Sequence[Run]]


class DataArrived:
    """Implements Sensor: so many ticks have come since the last that it told of."""

    def __init__(
        self, archive: Path, ticks: int, spec: Path, kind: str = "cycle", open_runs: OpenRuns = lambda: ()
    ) -> None:
        """Look at an archive.

        Args:
            archive: folder that the data service writes.
            ticks: after so many new ones a run begins.
            spec: file of what the run is to do.
            kind: of run.
            open_runs: those that have not ended: where a check is among them, no other begins.

        Raises:
            ConfigurationError: the spec is none.
        """
        self._archive, self._ticks, self._kind, self._open = archive, ticks, kind, open_runs
        self._spec = with_archive(read_file(spec), kind, archive)
        check(self._request("0"))

    def look(self, now: datetime) -> Sequence[Happening]:
        """See Sensor. Raises SourceError for an archive that is damaged."""
        del now
        head = read_head(self._archive)
        if head is None:
            return []
        count = sum(one.next_offset for one in head.partitions.values())
        reached = count // self._ticks
        if not reached:
            return []
        # Of another topic, or of one that was made anew, they are other ticks.
        key = f"{head.topic_id}/{reached * self._ticks}"
        if self._kind == CHECK:
            key = f"{CHECK}/{key}"
            if any(run.request.kind == CHECK for run in self._open()):
                return []
        return [Happening("data", key, self._request(f"{reached * self._ticks:,}"), {"ticks": count})]

    def _request(self, reached: str) -> RunRequest:
        why = f"the archive has reached {reached} ticks"
        # There is one check at a time: it waits for its turn, and not until a study is over.
        priority = BY_HAND if self._kind == CHECK else BY_ITSELF
        return RunRequest(
            kind=self._kind, spec=self._spec, trigger="data", reason=why, by="data", priority=priority
        )


class Found:
    """Implements Sensor: the newest check has found drift, or decay."""

    def __init__(self, begins: dict[Kind, tuple[str, Any]], latest: Callable[[], Sequence[Run]]) -> None:
        """Look at what checks came to.

        Args:
            begins: what was found -> the kind of run that it begins, and that run's spec.
            latest: the newest checks, and runs that promote, that have ended, the newest first.

        Raises:
            ConfigurationError: a spec is none.
        """
        self._begins, self._latest = begins, latest
        for kind in begins:
            check(self._request(kind, "nothing"))

    def look(self, now: datetime) -> Sequence[Happening]:
        """See Sensor. Raises ServiceUnavailable."""
        ended = self._latest()
        newest = next((one for one in ended if came_to(one) == (CHECK, Verdict.SUCCEEDED)), None)
        told = None if newest is None else newest.outputs.get("assess")
        if newest is None or told is None:
            return []
        if now.timestamp() - (newest.ended_s or 0.0) > OLD_S:
            # What was found long ago, by somebody else's settings perhaps, begins nothing now.
            return []
        if any(came_to(one) in CHANGED and (one.ended_s or 0.0) > newest.submitted_s for one in ended):
            # It was looked at a champion that decides no more.
            return []
        for kind in FOUND:
            if kind in told.get("kinds", ()) and kind in self._begins:
                # A second check of the same champion finds the same again, and is ruled on for itself.
                detail = {"check": newest.id, "alarms": told.get("alarms", [])}
                request = self._request(kind, str(told.get("summary", "")), str(told.get("champion", "")))
                return [Happening(kind, newest.id, request, detail)]
        return []

    def _request(self, kind: Kind, summary: str, champion: str = "") -> RunRequest:
        begins, spec = self._begins[kind]
        if begins == "update":
            # Of another champion nothing was found.
            spec = {**spec, "champion": champion}
        return RunRequest(kind=begins, spec=spec, trigger=kind, reason=summary[:500], by=kind)


def came_to(run: Run) -> tuple[str, Verdict]:
    """Its kind and its verdict."""
    return run.request.kind, run.verdict


def sensors_of(settings: OrchestratorSettings, store: Store) -> list[Sensor]:
    """Those that are wanted. Raises ConfigurationError where something of them is missing."""
    found: list[Sensor] = []
    for ticks, spec, kind in (
        (settings.data_ticks, settings.cycle, "cycle"),
        (settings.check_ticks, settings.check, CHECK),
    ):
        if not ticks:
            continue
        if (settings.archive is None and kind == "cycle") or spec is None:
            named = "DATA_TICKS" if kind == "cycle" else "CHECK_TICKS"
            raise ConfigurationError(
                f"ULTRATHINK_ORCHESTRATOR_{named} wants ULTRATHINK_ORCHESTRATOR_ARCHIVE, the folder that the data "
                f"service writes, and ULTRATHINK_ORCHESTRATOR_{kind.upper()}, the file of what is then run"
            )
        archive = settings.archive
        if kind == CHECK:
            # Where it is to look somewhere else, that is what must grow.
            archive = Path(with_archive(read_file(spec), kind, archive)["archive"]).expanduser().absolute()
        assert archive is not None  # noqa: S101 - see above
        found.append(DataArrived(archive, ticks, spec, kind, lambda: open_runs(store)))
    if begins := begun_by(settings):
        kinds = [CHECK, *(kind for kind, _ in CHANGED)]
        found.append(
            Found(begins, lambda: [run for k in kinds for run in store.runs.listed(LATEST, "ended", kind=k)])
        )
    return found


def open_runs(store: Store) -> list[Run]:
    """Checks that have not ended. Raises ServiceUnavailable."""
    return [run for state in ("ready", "running") for run in store.runs.listed(MOST_OPEN, state, kind=CHECK)]


def begun_by(settings: OrchestratorSettings) -> dict[Kind, tuple[str, Any]]:
    """What a finding begins, where it begins anything. Raises ConfigurationError where its file is missing."""
    found: dict[Kind, tuple[str, Any]] = {}
    wanted: tuple[tuple[Kind, str], ...] = (("drift", settings.on_drift), ("decay", settings.on_decay))
    for kind, begins in wanted:
        if begins == "nothing":
            continue
        path = settings.cycle if begins == "cycle" else settings.update
        if path is None:
            prefix = "ULTRATHINK_ORCHESTRATOR"
            raise ConfigurationError(
                f"{prefix}_ON_{kind.upper()}={begins} wants {prefix}_{begins.upper()}, the file of what is then run"
            )
        found[kind] = (begins, with_archive(read_file(path), begins, settings.archive))
    return found

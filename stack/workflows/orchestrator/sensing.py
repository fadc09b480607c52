"""What may begin a run by itself: new ticks of the desk's own archive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from stack.workflows.orchestrator.asked import check, read_file
from trading.errors import ConfigurationError
from trading.history.archive import read_head
from trainers.orchestrator.ports import Happening
from trainers.orchestrator.runs import RunRequest


class DataArrived:
    """Implements Sensor: so many ticks have come since the last that it told of."""

    def __init__(self, archive: Path, ticks: int, spec: Path) -> None:
        """Look at an archive.

        Args:
            archive: folder that the data service writes.
            ticks: after so many new ones a cycle begins.
            spec: file of what the cycle is to do.

        Raises:
            ConfigurationError: the spec is none.
        """
        self._archive, self._ticks, self._spec = archive, ticks, read_file(spec)
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
        return [Happening("data", key, self._request(f"{reached * self._ticks:,}"), {"ticks": count})]

    def _request(self, reached: str) -> RunRequest:
        why = f"the archive has reached {reached} ticks"
        return RunRequest(kind="cycle", spec=self._spec, trigger="data", reason=why, by="data")


def sensors_of(archive: Path | None, ticks: int, spec: Path | None) -> list[DataArrived]:
    """Those that are wanted. Raises ConfigurationError where something of them is missing."""
    if not ticks:
        return []
    if archive is None or spec is None:
        raise ConfigurationError(
            "ULTRATHINK_ORCHESTRATOR_DATA_TICKS wants ULTRATHINK_ORCHESTRATOR_ARCHIVE, the folder that the data "
            "service writes, and ULTRATHINK_ORCHESTRATOR_CYCLE, the file of what is then run"
        )
    return [DataArrived(archive, ticks, spec)]

"""What a replay reads of a trail: decisions in order, the broker's reports, commands; as they were published."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress

from services.forensics.kinds import FEW
from services.forensics.store.reading import OFFSET, LogRow, TrailReader, to_record
from trading.control import read_command
from trading.decision import wire
from trading.errors import BadRecord, ConfigurationError
from trading.events import Command, ExecutionReport
from trading.experiments.register import ExperimentHistory
from trading.risk.limits import LimitSet
from trading.state.applied import limits_of, read_report, steers

#: Reports that are read at once.
AHEAD = 5000
PLACE = re.compile(r"(.+)-([0-9]{1,9})-([0-9]{1,18})", re.DOTALL)
Steered = tuple[Command, LimitSet | None]


class TrailEvents:
    """Implements EventLog for one partition."""

    def __init__(
        self, reader: TrailReader, ticks_topic: str, partition: int, logs: Mapping[str, LogRow], base: LimitSet
    ) -> None:
        """Nothing is read yet.

        Args:
            reader: of the trail.
            ticks_topic, partition: of the ticks.
            logs: kind -> log: fills of this partition, and commands, as far as there are any.
            base: whose limits are resolved.
        """
        self._reader, self._topic, self._partition = reader, ticks_topic, partition
        self._fills, self._control, self._base = logs.get("fills"), logs.get("commands"), base
        self._ahead: list[tuple[int, ExecutionReport]] = []
        self._ahead_to = 0
        self._steered: dict[int, Steered] = {}
        self._experiments: ExperimentHistory | None = None

    def reports(self, start: int, stop: int) -> list[tuple[int, ExecutionReport]]:
        """From a block that is read ahead."""
        if start < self._ahead_to - AHEAD or stop > self._ahead_to:
            self._ahead_to = max(stop, start + AHEAD)
            self._ahead = list(self._read_reports(start, self._ahead_to))
        return [one for one in self._ahead if start <= one[0] < stop]

    def commands(self, start: int, stop: int) -> list[Steered]:
        """Of all that there are."""
        self._read_commands()
        return [steered for offset, steered in self._steered.items() if start <= offset < stop]

    def assigned(self, experiment: str, symbol: str, event_time_ns: int) -> str:
        """By the experiment as it stood after the command that a decision names."""
        return self._read_commands().assigned(experiment, symbol, event_time_ns)

    def _read_reports(self, start: int, stop: int) -> Iterator[tuple[int, ExecutionReport]]:
        if self._fills is None:
            return
        for row in self._reader.rows("fills", self._fills.id, start, stop - 1):
            with suppress(BadRecord):
                yield row[OFFSET], read_report(to_record(row).value, self._topic, self._partition)

    def _read_commands(self) -> ExperimentHistory:
        """All of them are read at the first question: people give few."""
        if self._experiments is not None:
            return self._experiments
        found, steered = ExperimentHistory(), dict[int, Steered]()
        for row in () if self._control is None else self._reader.rows("commands", self._control.id, 0):
            try:
                command = read_command(to_record(row).value)
            except BadRecord:
                continue
            if steers(command):
                steered[row[OFFSET]] = command, limits_of(command, self._base)
            elif command.kind == "experiment":
                found.take(row[OFFSET], command.value, command.by, command.reason, command.at_ns)
        # Together, and when all are read: a trail that fails midway is no shorter one.
        self._steered, self._experiments = steered, found
        return found


class DecisionStream:
    """A partition's decisions by their ticks, in order; the first of a tick stands, as in a gateway's rebuild."""

    def __init__(self, reader: TrailReader, log: LogRow, ticks_topic: str) -> None:
        """Nothing is read yet.

        Attributes:
            unreadable: how many records among them were no decisions.
        """
        self._rows = reader.rows("decisions", log.id, 0)
        self._prefix = wire.id_prefix(ticks_topic, log.name.partition)
        self._next: tuple[int, bytes] | None = None
        self._decided = -1
        self.unreadable = 0

    def up_to(self, offset: int) -> dict[int, bytes]:
        """Tick's offset -> payload, of ticks up to this offset that were not asked for before."""
        found = {}
        while (one := self._see()) is not None and one[0] <= offset:
            found[one[0]] = one[1]
            self._next = None
        return found

    def first(self) -> int | None:
        """The tick of the next decision; None at the end."""
        one = self._see()
        return None if one is None else one[0]

    def _see(self) -> tuple[int, bytes] | None:
        while self._next is None:
            row = next(self._rows, None)
            if row is None:
                return None
            payload = to_record(row).value or b""
            try:
                offset = wire.offset_in(payload, self._prefix)
            except BadRecord:
                self.unreadable += 1
                continue
            if offset > self._decided:
                self._decided, self._next = offset, (offset, payload)
        return self._next


def logs_of(
    reader: TrailReader, partition: int, topics: Mapping[str, str], without: Collection[str] = ()
) -> dict[str, LogRow]:
    """Kind -> the newest log of its topic, of this partition or unpartitioned; topics made anew are others.

    Logs of the ids in `without` are left aside.
    """
    found: dict[str, LogRow] = {}
    for row in sorted(reader.logs(), key=lambda one: one.id):
        wanted = 0 if row.kind in FEW else partition
        is_known = topics.get(row.name.topic) is not None and row.name.topic_id not in without
        if is_known and row.name.partition == wanted:
            found[row.kind] = row
    return found


def place_of(decision_id: str, ticks_topic: str) -> tuple[int, int]:
    """Partition and offset of the tick. Raises ConfigurationError for what is no id of this topic."""
    found = PLACE.fullmatch(decision_id)
    if found is None or found[1] != ticks_topic:
        raise ConfigurationError(
            f"{decision_id!r} is no decision about {ticks_topic}: ids are TOPIC-PARTITION-OFFSET"
        )
    return int(found[2]), int(found[3])


def spans_of(reader: TrailReader, topics: Mapping[str, str]) -> Sequence[int]:
    """Every partition of the decisions."""
    return sorted(
        {row.name.partition for row in reader.logs() if row.kind == "decisions" and row.name.topic in topics}
    )

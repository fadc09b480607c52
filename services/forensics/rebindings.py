"""Logs that continue others: what the trail tells of it, and whether a topic holds what it has of another."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from services.forensics.own_keys import own_keys
from services.forensics.ports import LogName
from services.forensics.records import Record
from services.forensics.settings import ForensicsSettings
from services.forensics.store.reading import LogRow, TrailReader, to_record
from trading.control import read_command
from trading.errors import BadRecord, ConfigurationError
from trading.state.rebinding import ComparedLog, Rebinding, read_rebinding

#: How many records are compared between two words on it.
TOLD_EVERY = 1000


def rebindings_of(reader: TrailReader, settings: ForensicsSettings) -> list[Rebinding]:
    """Those on record that one of the trail's keys has signed, in order. Raises ConfigurationError for a key."""
    keys, found = own_keys(settings), []
    for log in reader.logs():
        if log.kind != "commands":
            continue
        for row in reader.rows("commands", log.id, 0):
            try:
                command = read_command(to_record(row).value)
                if command.kind == "rebind":
                    found.append(read_rebinding(command.value, keys))
            except BadRecord:
                continue
    return found


def previous_log(reader: TrailReader, name: LogName) -> LogRow | None:
    """What the trail has of the topic's partition before it was made anew; None where that was never.

    Of several the longest: one that was made anew, and held nothing, is nobody's past.
    """
    others = [
        row
        for row in reader.logs()
        if (row.name.topic, row.name.partition) == (name.topic, name.partition)
        and row.name.topic_id != name.topic_id
    ]

    def end(row: LogRow) -> tuple[int, int]:
        batch = reader.batch_before(row.id, 2**63 - 1)
        return -1 if batch is None else batch.last_offset, row.id

    return max(others, key=end, default=None)


def compare_log(
    reader: TrailReader,
    old: LogRow | None,
    name: LogName,
    bounds: tuple[int, int],
    records: Callable[[int, int], Iterable[Record]],
    advance: Callable[[int, int], None] = lambda *_: None,
    *,
    may_go_on: bool = False,
) -> ComparedLog:
    """Whether a partition that was made anew holds what the trail has of the old one.

    What is retired from the trail lies before what is compared. What Kafka no longer holds is lost: these topics
    are kept for good.

    Args:
        reader: of the trail.
        old: what it has of the old one; None for nothing.
        name: of the new one.
        bounds: the first offset that the new one holds, and the one after its last.
        records: of the new one that are committed, from an offset to before another.
        advance: told how many were compared, and of how many.
        may_go_on: whether more may follow in the new one.

    Raises:
        ConfigurationError: with the first offset at which they differ.
        ServiceUnavailable: Kafka or the database does not answer.
    """
    batch = None if old is None else reader.batch_before(old.id, 2**63 - 1)
    end = 0 if batch is None else batch.last_offset + 1
    held, new_end = bounds
    if old is None or batch is None:
        refuse_more(name, 0, records(held, new_end), may_go_on=may_go_on)
        return ComparedLog(name.topic, name.partition, 0, 0, "")
    retired = reader.last_retired(old.id)
    begin = 0 if retired is None else retired + 1
    count, there = 0, iter(records(max(begin, held), min(end, new_end)))
    for row in reader.rows(old.kind, old.id, begin):
        recorded, found = to_record(row), next(there, None)
        if found != recorded:
            raise differs(name, old, recorded, found)
        count += 1
        if count % TOLD_EVERY == 0:
            advance(count, batch.to_size)
    if (more := next(there, None)) is not None:
        raise ConfigurationError(f"{name} holds a record at offset {more.offset} that the trail has not")
    refuse_more(name, end, records(max(end, held), new_end), may_go_on=may_go_on)
    advance(batch.to_size, batch.to_size)
    return ComparedLog(name.topic, name.partition, count, end, batch.root.hex())


def refuse_more(name: LogName, end: int, records: Iterable[Record], *, may_go_on: bool) -> None:
    """Raise ConfigurationError where anything follows what the trail has."""
    if not may_go_on and (more := next(iter(records), None)) is not None:
        raise ConfigurationError(
            f"{name} goes on at offset {more.offset}, and the trail has nothing of it from {end} on: who could say "
            "what it was?"
        )


def differs(name: LogName, old: LogRow, recorded: Record, found: Record | None) -> ConfigurationError:
    """The first difference, as an error."""
    if found is None:
        return ConfigurationError(
            f"{name} has no record at offset {recorded.offset}, and the trail has one of {old.name.topic_id}: not "
            "all of it was brought back"
        )
    if found.offset != recorded.offset:
        return ConfigurationError(
            f"{name} has its next record at offset {found.offset}, and the trail of {old.name.topic_id} at "
            f"{recorded.offset}: offsets must be the same, as copied files or a mirror that keeps them have them"
        )
    fields = ("timestamp_type", "timestamp_ms", "key", "value", "headers")
    what = next(one for one in fields if getattr(found, one) != getattr(recorded, one))
    return ConfigurationError(
        f"{name} has another {what} at offset {recorded.offset} than the trail has of {old.name.topic_id}"
    )

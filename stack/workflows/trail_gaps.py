"""Every gap of the trail's offsets, explained by what Kafka shows there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from connectors.kafka.cluster import require, topic_id
from connectors.kafka.messages import offset_of
from connectors.kafka.reading import read_to_end
from connectors.kafka.watermarks import bounds
from services.forensics.gaps import GapRun, LogGaps, explain
from services.forensics.ports import LogName
from services.forensics.settings import ForensicsSettings
from services.forensics.source import NEWER
from services.forensics.store.reading import LogRow, TrailReader, opened
from trading.errors import ServiceUnavailable

#: Of a log that is on record and not in this Kafka.
GONE = "its topic was made anew, or is another Kafka's"
Show = Callable[[str, int, int], None]
#: Told of every gap of a log.
Each = Callable[[str, GapRun], None]


def explain_gaps(
    settings: ForensicsSettings, topics: list[str], show: Show, each: Each = lambda *_: None
) -> list[LogGaps]:
    """Look at every log of these topics (all on the trail where none is named), in Kafka and on record.

    Raises:
        ServiceUnavailable: Kafka or the database does not answer, or a topic is missing.
    """
    wanted, bootstrap = topics or list(settings.roles()), settings.kafka_bootstrap
    ids = {}
    for topic in wanted:
        try:
            ids[topic] = topic_id(bootstrap, topic)
        except ServiceUnavailable:
            # A cluster of before this version; whoever names it hears of it.
            if topics or settings.roles()[topic] not in NEWER:
                raise
    there = {LogName(ids[topic], partition, topic) for topic in ids for partition in require(bootstrap, topic)}
    with opened(settings.reader_url.get_secret_value()) as reader:
        known = {log.name: log for log in reader.logs() if log.name.topic in wanted}
        found = [of_log(reader, name, known.get(name), bootstrap, (show, each)) for name in sorted(there)]
        gone = [
            LogGaps(
                str(name),
                name.topic_id,
                records(reader, known[name]),
                note="its topic was made anew, or is another Kafka's",
            )
            for name in sorted(known.keys() - there)
        ]
    return found + gone


def records(reader: TrailReader, log: LogRow) -> int:
    """On record."""
    batch = reader.batch_before(log.id, 2**63 - 1)
    return 0 if batch is None else batch.to_size


def of_log(
    reader: TrailReader, name: LogName, log: LogRow | None, bootstrap: str, told: tuple[Show, Each]
) -> LogGaps:
    """One log, read as who sees what was committed, and as who sees all that was written."""
    show, each = told
    batch = None if log is None else reader.batch_before(log.id, 2**63 - 1)
    found = LogGaps(str(name), name.topic_id, counts={}, runs=[], wrong=[])
    held_from, kafka_end = bounds(bootstrap, name.topic, name.partition)
    if log is not None and batch is not None:
        found.records, found.looked_to = batch.to_size, batch.last_offset + 1

    def offsets(start: int, stop: int, isolation: str) -> Iterator[int]:
        for messages in read_to_end(bootstrap, name.topic, name.partition, start, stop, isolation):
            yield from map(offset_of, messages)
            if messages and isolation == "read_committed":
                show(str(name), offset_of(messages[-1]) + 1, max(kafka_end, found.looked_to))

    end = found.looked_to
    if log is not None and end:
        runs = explain(
            reader.offsets(log.kind, log.id), offsets(held_from, end, "read_committed"),
            offsets(held_from, end, "read_uncommitted"), held_from, end,
        )  # fmt: skip
        for run in runs:
            found.take(run)
            each(str(name), run)
    found.newer = sum(1 for _ in offsets(max(end, held_from), kafka_end, "read_committed"))
    return found

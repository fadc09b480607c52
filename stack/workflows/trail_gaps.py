"""Every gap of the trail's offsets, explained by what Kafka shows there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from connectors.kafka.cluster import topic_id
from connectors.kafka.messages import offset_of
from connectors.kafka.reading import read_to_end
from connectors.kafka.watermarks import bounds
from services.forensics.gaps import LogGaps, explain
from services.forensics.settings import ForensicsSettings
from services.forensics.store.reading import LogRow, TrailReader, opened


def explain_gaps(
    settings: ForensicsSettings, topics: list[str], show: Callable[[str, int, int], None]
) -> list[LogGaps]:
    """Look at every log of these topics (all on the trail where none is named) that Kafka still has.

    A topic that was made anew since is another log: of the one before there is nothing to look at.

    Raises:
        ServiceUnavailable: Kafka or the database does not answer.
    """
    wanted, bootstrap = topics or list(settings.roles()), settings.kafka_bootstrap
    ids = {topic: topic_id(bootstrap, topic) for topic in wanted}
    with opened(settings.reader_url.get_secret_value()) as reader:
        logs = [log for log in reader.logs() if ids.get(log.name.topic) == log.name.topic_id]
        return [of_log(reader, log, bootstrap, show) for log in logs]


def of_log(reader: TrailReader, log: LogRow, bootstrap: str, show: Callable[[str, int, int], None]) -> LogGaps:
    """One log, read as who sees what was committed, and as who sees all that was written."""
    batch = reader.batch_before(log.id, 2**63 - 1)
    if batch is None:
        return LogGaps(str(log.name), 0, [])
    end = batch.last_offset + 1
    held_from = bounds(bootstrap, log.name.topic, log.name.partition)[0]

    def offsets(isolation: str) -> Iterator[int]:
        for messages in read_to_end(bootstrap, log.name.topic, log.name.partition, held_from, end, isolation):
            yield from map(offset_of, messages)
            if messages and isolation == "read_committed":
                show(str(log.name), offset_of(messages[-1]) + 1, end)

    runs = explain(
        reader.offsets(log.kind, log.id), offsets("read_committed"), offsets("read_uncommitted"), held_from, end
    )
    return LogGaps(str(log.name), batch.to_size, list(runs))

"""The ticks of a replay: from Kafka, and from the archive where Kafka no longer holds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from connectors.kafka.cluster import topic_id
from services.forensics.replaying import TickLog
from services.forensics.settings import ForensicsSettings
from services.forensics.tick_log import KafkaTicks
from trading.encoding import encode
from trading.errors import ConfigurationError
from trading.history.archive import ArchivedTick, first_offset, read_head, read_partition
from trading.state.log import LoggedMessage
from trading.state.rebinding import Rebinding, ids_before

CHUNK = 1000


def lived_ticks(settings: ForensicsSettings, rebindings: Sequence[Rebinding] = ()) -> TickLog:
    """As the settings say; an archive of another topic, or of one that was made anew since, is left aside.

    That of a topic which the one that is there continues, by one of the `rebindings`, is its own.

    Raises SourceError for an archive that is damaged, and ServiceUnavailable.
    """
    kafka, folder = KafkaTicks(settings.kafka_bootstrap, settings.ticks_topic), settings.ticks_archive
    head = None if folder is None else read_head(folder)
    if folder is None or head is None or head.topic != settings.ticks_topic:
        return kafka
    now = topic_id(settings.kafka_bootstrap, settings.ticks_topic)
    if head.topic_id not in {now} | ids_before(now, rebindings):
        return kafka
    return LivedTicks(kafka, folder)


class LivedTicks:
    """Implements TickLog over both, where they meet."""

    def __init__(self, kafka: TickLog, folder: Path) -> None:
        """What Kafka holds is read there."""
        self._kafka, self._folder = kafka, folder

    def topic_id(self) -> str:
        """Kafka's, which the archive has too."""
        return self._kafka.topic_id()

    def partitions(self) -> int:
        """Kafka's."""
        return self._kafka.partitions()

    def bounds(self, partition: int) -> tuple[int, int]:
        """From the archive's first, where the archive is whole and reaches Kafka's. Raises SourceError."""
        first, end = self._kafka.bounds(partition)
        if not self._reaches(partition, first):
            return first, end
        archived = first_offset(self._folder, partition)
        return (first if archived is None else min(first, archived)), end

    def read(self, partition: int, start: int, stop: int) -> Iterator[Sequence[LoggedMessage]]:
        """In order. Raises SourceError, ServiceUnavailable, and ConfigurationError for a gap between the two."""
        held, _ = self._kafka.bounds(partition)
        if start < held:
            self._refuse_gap(partition, held)
            found = read_partition(self._folder, partition, start, min(stop, held))
            while chunk := [to_message(one) for one in islice(found, CHUNK)]:
                yield chunk
            # Reading took its time, in which Kafka may have deleted more.
            before, held = held, self._kafka.bounds(partition)[0]
            self._refuse_gap(partition, held)
            found = read_partition(self._folder, partition, max(start, before), min(stop, held))
            while chunk := [to_message(one) for one in islice(found, CHUNK)]:
                yield chunk
        if stop > held:
            yield from self._kafka.read(partition, max(start, held), stop)

    def _reaches(self, partition: int, held: int) -> bool:
        head = read_head(self._folder)
        told = None if head is None else head.partitions.get(partition)
        return told is not None and not told.lost and told.next_offset >= held

    def _refuse_gap(self, partition: int, held: int) -> None:
        if not self._reaches(partition, held):
            raise ConfigurationError(
                f"partition {partition}: Kafka holds ticks from offset {held} on, and the archive {self._folder} "
                "does not reach that far without a gap"
            )


def to_message(found: ArchivedTick) -> LoggedMessage:
    """As it lay in Kafka; its payload says the same, perhaps in other bytes."""
    tick = found.tick
    return LoggedMessage(
        found.offset, found.sent_ns, tick.symbol.encode(), encode(tick), found.traceparent, found.appended_ns
    )

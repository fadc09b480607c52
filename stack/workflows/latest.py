"""The last records of a topic that are wanted, however far back they lie."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from msgspec import Struct

from connectors.kafka.cluster import require
from connectors.kafka.messages import as_bytes
from connectors.kafka.reading import read_to_end
from connectors.kafka.watermarks import bounds
from trading.errors import BadRecord

#: Of a partition so many times more is read where too few were found.
FURTHER = 8
T = TypeVar("T")


class Latest(Struct, Generic[T], frozen=True):
    """Records, and how many of the messages between them hold none that this version knows."""

    records: list[T]
    unread: int = 0


def latest_records(
    bootstrap: str,
    topic: str,
    count: int,
    read: Callable[[bytes], T],
    takes: Callable[[T], bool],
    at_ns: Callable[[T], int],
) -> Latest[T]:
    """The last so many of a topic, of all its partitions, in the order of their times.

    Args:
        bootstrap: broker addresses.
        topic: where.
        count: how many.
        read: a record from its bytes; raises BadRecord for what is none.
        takes: whether a record is one of those wanted.
        at_ns: its time.

    Raises:
        ConfigurationError: there is no such topic.
        ServiceUnavailable: Kafka does not answer.
    """
    parts = [latest_of(bootstrap, topic, p, count, read, takes) for p in require(bootstrap, topic)]
    found = [one for part in parts for one in part.records]
    return Latest(sorted(found, key=at_ns)[-count:], sum(part.unread for part in parts))


def latest_of(
    bootstrap: str, topic: str, partition: int, count: int, read: Callable[[bytes], T], takes: Callable[[T], bool]
) -> Latest[T]:
    """Of one partition: read from ever further back, as far as it takes."""
    low, high = bounds(bootstrap, topic, partition)
    # Beside each message of a small transaction lies the mark of its end.
    reach = 2 * count
    while True:
        start = max(low, high - reach)
        kept: deque[T] = deque(maxlen=count)
        unread = 0
        for messages in read_to_end(bootstrap, topic, partition, start):
            for message in messages:
                try:
                    one = read(as_bytes(message.value()) or b"")
                except BadRecord:
                    unread += 1
                else:
                    if takes(one):
                        kept.append(one)
        if len(kept) == count or start <= low:
            return Latest(list(kept), unread)
        reach *= FURTHER

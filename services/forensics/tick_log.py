"""Ticks as they lie in Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing

from connectors.kafka.cluster import require, topic_id
from connectors.kafka.logged import logged
from connectors.kafka.reading import read_to_end
from connectors.kafka.watermarks import Watermarks
from trading.state.log import LoggedMessage


class KafkaTicks:
    """Implements TickLog."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap, self._topic = bootstrap, topic

    def topic_id(self) -> str:
        """Raises ServiceUnavailable where there is no such topic."""
        return topic_id(self._bootstrap, self._topic)

    def partitions(self) -> int:
        """Raises ServiceUnavailable where there is no such topic."""
        return len(require(self._bootstrap, self._topic))

    def bounds(self, partition: int) -> tuple[int, int]:
        """The watermarks."""
        with closing(Watermarks(self._bootstrap)) as watermarks:
            return watermarks.bounds(self._topic, partition)

    def read(self, partition: int, start: int, stop: int) -> Iterator[Sequence[LoggedMessage]]:
        """From `start` to before `stop`."""
        for messages in read_to_end(self._bootstrap, self._topic, partition, start, stop):
            now_ns = time.time_ns()
            yield [logged(message, now_ns) for message in messages]

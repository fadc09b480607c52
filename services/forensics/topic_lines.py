"""A topic of one partition as a place for lines: checkpoints, and the journal of releases."""

from __future__ import annotations

from collections.abc import Iterator

from connectors.kafka.client import KafkaException, Message, Producer
from connectors.kafka.errors import translated
from connectors.kafka.messages import as_bytes
from connectors.kafka.reading import read_to_end
from connectors.kafka.watermarks import bounds
from connectors.logs import kafka_logger
from trading.errors import ServiceUnavailable

#: A line is waited for so long; those of whoever must not be held up for less.
FLUSH_S, SOON_S = 10.0, 2.0


class TopicLines:
    """Implements Lines."""

    def __init__(self, bootstrap: str, topic: str, wait_s: float = FLUSH_S) -> None:
        """Nothing is asked yet; a line that did not arrive within `wait_s` is given up."""
        self._bootstrap, self._topic, self._wait_s = bootstrap, topic, wait_s
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 0,
                "message.timeout.ms": int(wait_s * 1000),
                "log_level": 3,
            },
            logger=kafka_logger(),
        )

    def append(self, line: bytes) -> None:
        """Waits until the brokers have it."""
        failed: list[str] = []

        def delivered(error: object, _: Message) -> None:
            if error is not None:
                failed.append(str(error))

        try:
            self._producer.produce(self._topic, line, partition=0, on_delivery=delivered)
            left = self._producer.flush(self._wait_s)
        except (KafkaException, BufferError) as error:
            if isinstance(error, KafkaException):
                raise translated(error, f"nothing can be written to {self._topic}") from error
            raise ServiceUnavailable(f"nothing can be written to {self._topic}: {error}") from error
        if left:
            # Nothing of it may arrive later than it is asked for again.
            self._producer.purge()
            self._producer.flush(self._wait_s)
        if failed or left:
            raise ServiceUnavailable(
                f"nothing can be written to {self._topic}: {(failed or ['no answer in time'])[0]}"
            )

    def lines(self) -> Iterator[bytes]:
        """From the beginning."""
        return self._read(0)

    def last(self) -> bytes | None:
        """Read from the end."""
        _, end = bounds(self._bootstrap, self._topic, 0)
        step = 1
        while end:
            start = max(0, end - step)
            newest = None
            for newest in self._read(start):  # noqa: B007 - the last one is wanted
                pass
            if newest is not None or start == 0:
                return newest
            step *= 16
        return None

    def close(self) -> None:
        """What was not delivered is told to who asked; nothing is left."""
        self._producer.flush(self._wait_s)

    def _read(self, start: int) -> Iterator[bytes]:
        for messages in read_to_end(self._bootstrap, self._topic, 0, start):
            for message in messages:
                yield as_bytes(message.value()) or b""

"""Where partitions begin and end, and how far a group has committed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import TypeVar

from connectors.kafka.client import Consumer, KafkaException, TopicPartition
from connectors.kafka.cluster import require
from connectors.kafka.errors import CONTROL_TIMEOUT_S, passes, translated
from connectors.kafka.reading import connect, reader
from trading.errors import ServiceUnavailable

#: One that has lain idle for longer may have lost its brokers, and look for them for long.
KEPT_S = 5.0
RETRY_S = 0.1
#: A broker that does not answer within this is asked all the same.
CONNECT_S = 2.0
#: Between two looks whether a transaction is ended, which takes some milliseconds.
SETTLING_S = 0.02

Answer = TypeVar("Answer")


class Watermarks:
    """Asks over connections that are kept for as long as questions follow one another.

    A new client takes up to three quarters of a second to find a partition's leader or a group's coordinator.
    May be asked by several threads; they wait for one another.
    """

    def __init__(self, bootstrap: str, group: str = "ultrathink-reader", kept_s: float = KEPT_S) -> None:
        """Nothing is connected yet.

        Args:
            bootstrap: broker addresses.
            group: whose commits are asked for.
            kept_s: a client that was asked so lately is asked again.
        """
        self._bootstrap, self._group, self._kept_s = bootstrap, group, kept_s
        self._lock = threading.Lock()
        #: Isolation level -> the client that asks at it.
        self._clients: dict[str, Consumer] = {}
        self._asked_at = -math.inf

    def prepare(self, topic: str) -> None:
        """Connect in a thread, so that the first question need not wait for it."""

        def ask() -> None:
            with suppress(ServiceUnavailable):
                self.committed(topic, 0, CONTROL_TIMEOUT_S)
                self.bounds(topic, 0, "read_uncommitted")

        threading.Thread(target=ask, name="watermarks", daemon=True).start()

    def bounds(self, topic: str, partition: int, isolation: str = "read_committed") -> tuple[int, int]:
        """The first offset, and the one after the last. Raises ServiceUnavailable.

        Read-committed, the last is that of what is committed.

        A broker that has just come back says for a moment that it does not lead its partitions.
        """
        deadline = time.monotonic() + CONTROL_TIMEOUT_S
        place = TopicPartition(topic, partition)
        while True:
            try:
                low, high = self._ask(isolation, lambda one: one.get_watermark_offsets(place, CONTROL_TIMEOUT_S))
            except KafkaException as error:
                if time.monotonic() > deadline or not passes(error.args[0]):
                    require(self._bootstrap, topic)
                    raise translated(error, f"{topic}[{partition}] cannot be read") from error
                time.sleep(RETRY_S)
            else:
                return int(low), int(high)

    def committed(self, topic: str, partition: int, timeout_s: float) -> tuple[int, str]:
        """Where the group goes on and what was noted with it; -1 where it never committed.

        Stable: a transaction that is still open is waited for.

        Raises:
            ServiceUnavailable: no answer, which is not "never committed".
        """
        places = [TopicPartition(topic, partition)]

        def question(client: Consumer) -> list[TopicPartition]:
            connect(client, topic, CONNECT_S)
            return client.committed(places, timeout_s)

        try:
            (found,) = self._ask("read_committed", question)
        except KafkaException as error:
            raise translated(error, f"the commits of {self._group} cannot be read") from error
        if found.error is not None:
            raise ServiceUnavailable(f"the commits of {self._group} cannot be read ({found.error.str()})")
        return max(-1, int(found.offset)), found.metadata or ""

    def wait_until_settled(self, topic: str, partition: int, timeout_s: float) -> None:
        """Until every transaction that has written to a partition is ended there, whichever way.

        A coordinator tells the leaders one after another: offsets may be committed, and the records that were
        committed with them not yet be read.

        Raises:
            ServiceUnavailable: one is still open when the time is over.
        """
        _, end = self.bounds(topic, partition, "read_uncommitted")
        deadline = time.monotonic() + timeout_s
        while self.bounds(topic, partition)[1] < end:
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"a transaction on {topic}[{partition}] is open for {timeout_s:.0f} s")
            time.sleep(SETTLING_S)

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            self._drop()

    def _ask(self, isolation: str, question: Callable[[Consumer], Answer]) -> Answer:
        with self._lock:
            if time.monotonic() > self._asked_at + self._kept_s:
                self._drop()
            if isolation not in self._clients:
                self._clients[isolation] = reader(self._bootstrap, self._group, isolation)
            try:
                answer = question(self._clients[isolation])
            except KafkaException:
                self._drop()
                raise
            self._asked_at = time.monotonic()
            return answer

    def _drop(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()


def bounds(bootstrap: str, topic: str, partition: int, isolation: str = "read_committed") -> tuple[int, int]:
    """`Watermarks.bounds`, asked once. Raises ServiceUnavailable."""
    with closing(Watermarks(bootstrap)) as watermarks:
        return watermarks.bounds(topic, partition, isolation)


def wait_until_settled(bootstrap: str, topic: str, partition: int, timeout_s: float) -> None:
    """`Watermarks.wait_until_settled`, asked once. Raises ServiceUnavailable."""
    with closing(Watermarks(bootstrap)) as watermarks:
        watermarks.wait_until_settled(topic, partition, timeout_s)


def offset_at(bootstrap: str, topic: str, partition: int, time_ms: int) -> int:
    """The first offset at or after a time; the end where there is none. Raises ServiceUnavailable."""
    consumer = reader(bootstrap)
    try:
        (found,) = consumer.offsets_for_times(
            [TopicPartition(topic, partition, max(0, time_ms))], CONTROL_TIMEOUT_S
        )
    except KafkaException as error:
        raise translated(error, f"{topic}[{partition}] cannot be read") from error
    finally:
        consumer.close()
    return int(found.offset) if found.offset >= 0 else bounds(bootstrap, topic, partition)[1]

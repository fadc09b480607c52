"""Where partitions begin and end, and how far a group has committed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import TypeVar

from msgspec import Struct

from connectors.kafka.client import Consumer, KafkaException, TopicPartition
from connectors.kafka.cluster import require
from connectors.kafka.errors import CONTROL_TIMEOUT_S, passes, translated
from connectors.kafka.reading import connect, reader
from trading.errors import ServiceUnavailable, UltraThinkError

COMMITTED, UNCOMMITTED = "read_committed", "read_uncommitted"
#: A client that has lain idle for longer may have lost its brokers, and look for them for long.
KEPT_S = 5.0
#: The same may have happened to one that is kept: what it does not answer within this a new one is asked.
KEPT_PATIENCE_S = 2.0
RETRY_S = 0.1
#: A broker that does not answer within this is asked all the same.
CONNECT_S = 2.0
#: A close waits no longer for a question that is being asked.
CLOSE_S = 1.0
#: Between two looks for what lies idle, at least.
LOOK_S = 0.1
#: Between two looks whether a transaction is ended, which takes some milliseconds.
SETTLING_S = 0.02

Answer = TypeVar("Answer")


class KeptClient(Struct):
    """Of one isolation level, and when it answered last: monotonic time."""

    consumer: Consumer
    answered_s: float


class Watermarks:
    """Asks over connections that are kept for a while, for questions that follow one another.

    A new client takes up to three quarters of a second to find a partition's leader or a group's coordinator.
    May be asked by several threads; they wait for one another.
    """

    def __init__(self, bootstrap: str, group: str = "ultrathink-reader", kept_s: float = KEPT_S) -> None:
        """Nothing is connected yet.

        Args:
            bootstrap: broker addresses.
            group: whose commits are asked for.
            kept_s: a client that has answered so lately is asked again.
        """
        self._bootstrap, self._group, self._kept_s = bootstrap, group, kept_s
        self._lock, self._closing = threading.Lock(), threading.Event()
        #: Isolation level -> the client that asks at it.
        self._clients: dict[str, KeptClient] = {}

    def prepare(self, topic: str) -> None:
        """Connect in a thread, so that the first question need not wait for it; it closes what lies idle, too."""
        threading.Thread(target=self._keep, args=(topic,), name="watermarks", daemon=True).start()

    def bounds(self, topic: str, partition: int, isolation: str = COMMITTED) -> tuple[int, int]:
        """The first offset, and the one after the last. Raises ServiceUnavailable.

        Read-committed, the last is that of what is committed.

        A broker that has just come back says for a moment that it does not lead its partitions.
        """
        deadline = time.monotonic() + CONTROL_TIMEOUT_S
        place = TopicPartition(topic, partition)

        def question(client: Consumer, timeout_s: float) -> tuple[int, int]:
            return client.get_watermark_offsets(place, timeout_s)

        while True:
            try:
                low, high = self._ask(isolation, question, CONTROL_TIMEOUT_S)
            except KafkaException as error:
                if time.monotonic() > deadline or not passes(error.args[0]):
                    require(self._bootstrap, topic)
                    raise translated(error, f"{topic}[{partition}] cannot be read") from error
                time.sleep(RETRY_S)
            else:
                return int(low), int(high)

    def committed(
        self, topic: str, partition: int, timeout_s: float, isolation: str = COMMITTED
    ) -> tuple[int, str]:
        """Where the group goes on and what was noted with it; -1 where it never committed.

        Read-committed it is stable: a transaction that is still open is waited for.

        Raises:
            ServiceUnavailable: no answer, which is not "never committed".
        """
        places = [TopicPartition(topic, partition)]

        def question(client: Consumer, timeout_s: float) -> list[TopicPartition]:
            return client.committed(places, timeout_s)

        try:
            (found,) = self._ask(isolation, question, timeout_s, topic)
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
        _, end = self.bounds(topic, partition, UNCOMMITTED)
        deadline = time.monotonic() + timeout_s
        while self.bounds(topic, partition)[1] < end:
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"a transaction on {topic}[{partition}] is open for {timeout_s:.0f} s")
            time.sleep(SETTLING_S)

    def close(self) -> None:
        """Close what is open; a client that is being asked is closed by whoever asks it. The next is refused."""
        self._closing.set()
        if self._lock.acquire(timeout=CLOSE_S):
            try:
                self._drop(list(self._clients))
            finally:
                self._lock.release()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """One thread at a time, which closes what it meant to keep where it has been closed meanwhile."""
        with self._lock:
            try:
                yield
            finally:
                if self._closing.is_set():
                    self._drop(list(self._clients))

    def _ask(
        self, isolation: str, question: Callable[[Consumer, float], Answer], timeout_s: float, topic: str = ""
    ) -> Answer:
        """One that is kept first, then a new one; with a topic, that is connected to first."""
        with self._asking():
            if self._closing.is_set():
                raise ServiceUnavailable(f"Kafka at {self._bootstrap} is not asked any more: this client is closed")
            self._drop_idle()
            kept = self._clients.get(isolation)
            if kept is not None:
                try:
                    return self._answer(isolation, question, min(timeout_s, KEPT_PATIENCE_S))
                except KafkaException:
                    self._drop([isolation])
            self._open(isolation, topic)
            try:
                return self._answer(isolation, question, timeout_s)
            except KafkaException:
                self._drop([isolation])
                raise

    def _answer(self, isolation: str, question: Callable[[Consumer, float], Answer], timeout_s: float) -> Answer:
        client = self._clients[isolation]
        answer = question(client.consumer, timeout_s)
        client.answered_s = time.monotonic()
        return answer

    def _open(self, isolation: str, topic: str) -> None:
        consumer = reader(self._bootstrap, self._group, isolation)
        self._clients[isolation] = KeptClient(consumer, time.monotonic())
        if topic:
            connect(consumer, topic, CONNECT_S)

    def _keep(self, topic: str) -> None:
        # What cannot be connected is told where it is asked.
        with self._asking(), suppress(UltraThinkError, KafkaException):
            for isolation in (COMMITTED, UNCOMMITTED):
                if isolation not in self._clients and not self._closing.is_set():
                    self._open(isolation, topic)
        while not self._closing.wait(max(self._kept_s, LOOK_S)):
            with self._asking():
                self._drop_idle()

    def _drop_idle(self) -> None:
        before_s = time.monotonic() - self._kept_s
        self._drop([isolation for isolation, one in self._clients.items() if one.answered_s < before_s])

    def _drop(self, isolations: list[str]) -> None:
        for isolation in isolations:
            # What cannot be closed is left to the process's end.
            with suppress(KafkaException, RuntimeError):
                self._clients.pop(isolation).consumer.close()


def bounds(bootstrap: str, topic: str, partition: int, isolation: str = COMMITTED) -> tuple[int, int]:
    """`Watermarks.bounds`, asked once. Raises ServiceUnavailable."""
    with closing(Watermarks(bootstrap)) as watermarks:
        return watermarks.bounds(topic, partition, isolation)


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

"""A user of the whole desk: publishes a tick, and waits for its decision."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from itertools import count, cycle, islice
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.threadpool import ThreadPool
from locust import constant_pacing, tag, task
from msgspec import structs

from connectors.kafka.client import Consumer, KafkaException, Message, Producer, TopicPartition
from connectors.kafka.messages import sent_header
from connectors.kafka.reading import consume_ready
from connectors.kafka.topics import TOPICS
from loadtest.open_loop.child_process import ends_of
from loadtest.open_loop.join import UNDECIDED
from loadtest.open_loop.reader import row_of
from loadtest.open_loop.rows import DEFAULT_SOURCE
from loadtest.users.base import TIMEOUT_S, PacedUser
from trading.decision.schema import REASONS
from trading.encoding import encode
from trading.history import open_source

TICKS, DECISIONS = TOPICS.ticks, TOPICS.decisions
#: Decisions that came before their tick's delivery was reported, or that are of somebody else's ticks.
KEPT = 10_000
POLL_S = 0.05
HELD_TICKS = 20_000


class DeskConnection:
    """One producer and one consumer a process.

    The client library blocks; it runs in two threads of the operating system, which hand what they hear to gevent's
    loop through a queue and a wake-up, the only call into a loop that another thread may make.
    """

    _shared: DeskConnection | None = None

    def __init__(self, bootstrap: str, source: str) -> None:
        starts = ends_of(bootstrap, DECISIONS)
        ends_of(bootstrap, TICKS)
        self.bootstrap = bootstrap
        self._ticks = cycle([r.tick for r in islice(open_source(source).records(), HELD_TICKS)])
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 0,
                "message.timeout.ms": int(TIMEOUT_S * 1000),
                "log_level": 0,
            }
        )
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "ultrathink-locust",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 100,
                "log_level": 0,
            }
        )
        self._consumer.assign([TopicPartition(DECISIONS, p, end) for p, end in starts.items()])
        self._heard: deque[tuple[str, Any, Any]] = deque()
        self._numbers = count()
        self._waiting: dict[int, AsyncResult] = {}
        self._places: dict[tuple[int, int], int] = {}
        self._place_of: dict[int, tuple[int, int]] = {}
        self._early: OrderedDict[tuple[int, int], int] = OrderedDict()
        self._open = True
        self._wake = gevent.get_hub().loop.async_()
        self._wake.start(self._hear)
        self._pool = ThreadPool(2)
        self._threads = [self._pool.spawn(self._deliver), self._pool.spawn(self._watch)]

    @classmethod
    def of(cls, bootstrap: str, source: str) -> DeskConnection:
        """The process's connection."""
        if cls._shared is None or cls._shared.bootstrap != bootstrap:
            cls.close_all()
            cls._shared = cls(bootstrap, source)
        return cls._shared

    @classmethod
    def close_all(cls) -> None:
        """End the threads, so that the process can end."""
        if cls._shared is not None:
            cls._shared.close()
            cls._shared = None

    def ask(self) -> int:
        """Publish the next tick, wait for its decision, and give the decision's size.

        Raises:
            TimeoutError: no decision in time.
            ValueError: the decision says that nothing was decided, and why.
            KafkaException: the tick was not delivered.
        """
        tick = structs.replace(next(self._ticks), event_time_ns=time.time_ns())
        number, answer = next(self._numbers), AsyncResult()
        self._waiting[number] = answer
        try:
            self._producer.produce(
                TICKS,
                encode(tick),
                tick.symbol.encode(),
                headers=[sent_header(time.time_ns())],
                on_delivery=lambda error, message: self._tell("sent", number, delivered(error, message)),
            )
            reason, size = answer.get(timeout=TIMEOUT_S)
        except gevent.Timeout:
            raise TimeoutError(f"no decision within {TIMEOUT_S:g} s") from None
        finally:
            del self._waiting[number]
            self._places.pop(self._place_of.pop(number, (-1, -1)), None)
        if reason >= 0 and REASONS[reason] in UNDECIDED:
            raise ValueError(f"undecided: {REASONS[reason].value}")
        return int(size)

    def close(self) -> None:
        """Stop reading and sending."""
        self._open = False
        gevent.joinall(self._threads, timeout=5.0)
        self._consumer.close()
        self._wake.close()

    # ---- in threads of the operating system

    def _deliver(self) -> None:
        while self._open:
            self._producer.poll(POLL_S)

    def _watch(self) -> None:
        while self._open:
            for message in consume_ready(self._consumer, 500, POLL_S):
                row = None if message.error() is not None else row_of(message.value() or b"", 0)
                if row is not None:
                    partition, reason, offset, _, size = row
                    self._tell("seen", (partition, offset), (reason, size))

    def _tell(self, what: str, key: Any, value: Any) -> None:
        self._heard.append((what, key, value))
        if self._open:
            self._wake.send()

    # ---- in gevent's loop

    def _hear(self) -> None:
        while self._heard:
            what, key, value = self._heard.popleft()
            if what == "sent":
                self._delivered(key, value)
            else:
                self._seen(key, value)

    def _delivered(self, number: int, place: Any) -> None:
        answer = self._waiting.get(number)
        if answer is None:
            return
        if isinstance(place, Exception):
            answer.set_exception(place)
        elif place in self._early:
            answer.set(self._early.pop(place))
        else:
            self._places[place], self._place_of[number] = number, place

    def _seen(self, place: tuple[int, int], told: Any) -> None:
        number = self._places.pop(place, None)
        if number is None:
            self._early[place] = told
            if len(self._early) > KEPT:
                self._early.popitem(last=False)
        elif (answer := self._waiting.get(number)) is not None:
            answer.set(told)


def delivered(error: Any, message: Message) -> Any:
    """Where a tick lies, or why it does not."""
    return KafkaException(error) if error is not None else (message.partition(), message.offset())


class EndToEndUser(PacedUser):
    """A tick every 100 ms, each waited for until a read-committed reader sees its decision."""

    target, protocol = "end-to-end", "Kafka"
    gap_s = 0.1
    wait_time = constant_pacing(gap_s)

    def connect(self) -> None:
        """The process's connection to the desk."""
        source = getattr(self.options, "data", DEFAULT_SOURCE)
        self.desk = DeskConnection.of(self.options.kafka, source)

    @tag("end-to-end", "kafka")
    @task
    def decide(self) -> None:
        """One tick."""
        self.timed(self.desk.ask)

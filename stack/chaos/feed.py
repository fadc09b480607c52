"""A steady stream of ticks with rubbish among them, and a sight of what comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from connectors.kafka.client import KafkaException, Producer, TopicPartition
from connectors.kafka.reading import reader
from connectors.kafka.watermarks import bounds
from loadtest.open_loop.publisher import Published, TickPublisher
from loadtest.open_loop.schedule import Planned, Speed, plan
from stack.servers.settings import StackSettings
from trading.encoding import encode
from trading.errors import ServiceUnavailable
from trading.events import Command
from trading.history import open_source

Progress = Callable[[str], None]
SYMBOLS = 12
#: How long a broker that was killed may take to lead its partitions again, on a busy machine.
BROKER_BACK_S = 60.0
#: One message in so many is no tick.
RUBBISH_EVERY = 97


def rubbish(number: int) -> bytes:
    """One of the kinds of what is no tick."""
    time_ns = 1_704_067_200_000_000_000
    kinds = (
        b"",
        b"rubbish",
        b'{"symbol":"SIM1","event_time_ns":' + str(time_ns).encode(),
        b'{"symbol":7,"event_time_ns":"soon"}',
        b"\xff\xfe\x00S\x00I\x00M",
        '{"symbol":"SÃO","event_time_ns":1}'.encode("latin-1"),
        b"[" * 3000 + b"]" * 3000,
        b"[" * 1500,
        b'{"symbol":"SIM1","event_time_ns":%d,"bid":NaN,"ask":1}' % time_ns,
        b'{"symbol":"SIM1","event_time_ns":%d,"bid":-1,"ask":1}' % time_ns,
        b'{"symbol":"SIM1","event_time_ns":4102444800000000000,"last":1}',
        b'{"symbol":"SIM1","event_time_ns":%d,"bid":1e999,"ask":1}' % time_ns,
        b'{"symbol":"NOBODY","event_time_ns":%d,"last":1}' % time_ns,
        b'{"symbol":"SIM1","event_time_ns":%d,"surprise":1}' % time_ns,
        b'{"symbol":"SIM1","event_time_ns":%d}' % -time_ns,
        b"x" * 20_000 if number % 1500 == 14 else b"x" * 5_000,
    )
    return kinds[number % len(kinds)]


class Feed:
    """Publishes until it is closed; the same ticks in the same order for the same seed."""

    def __init__(
        self, settings: StackSettings, topic: str, seed: int, rate_hz: float, *, shift_to_now: bool = False
    ) -> None:
        """Begin. With `shift_to_now` a tick happens when it is sent, else when the source says."""
        self._topic, self._bootstrap, self._shift_to_now = topic, settings.kafka_bootstrap, shift_to_now
        self._partitions = settings.partitions
        source = open_source(f"simulate:regimes?seed={seed}&ticks=100000000&symbols={SYMBOLS}")
        self._plan = plan(source.records(), Speed("constant", rate_hz=rate_hz))
        self._stopping = threading.Event()
        self._publisher = TickPublisher(self._bootstrap, topic)
        self._rubbish = Producer({"bootstrap.servers": self._bootstrap, "log_level": 0})
        self.published: Published | None = None
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and wait until all is delivered."""
        self._stopping.set()
        self._thread.join(60.0)
        self._rubbish.flush(30.0)

    def flood(self, count: int) -> None:
        """Send so much rubbish at once."""
        for number in range(count):
            self._send(number)
        self._rubbish.flush(120.0)

    def ends(self) -> dict[int, int]:
        """Partition -> the next offset of the ticks; a broker that was killed is waited for."""
        deadline = time.monotonic() + BROKER_BACK_S
        while True:
            try:
                return {p: bounds(self._bootstrap, self._topic, p)[1] for p in range(self._partitions)}
            except ServiceUnavailable:
                if time.monotonic() > deadline:
                    raise

    def _run(self) -> None:
        self.published = self._publisher.publish(
            self._until_stopped(), shift_to_now=self._shift_to_now, keep_times=False
        )

    def _until_stopped(self) -> Iterator[Planned]:
        for number, planned in enumerate(self._plan):
            if self._stopping.is_set():
                return
            if number % RUBBISH_EVERY == 0:
                self._send(number // RUBBISH_EVERY)
            yield planned

    def _send(self, number: int) -> None:
        while True:
            try:
                self._rubbish.produce(self._topic, rubbish(number), partition=number % self._partitions)
            except BufferError:
                self._rubbish.poll(0.05)
            else:
                self._rubbish.poll(0)
                return


def spoil_control(bootstrap: str, topic: str) -> None:
    """Write what is no command among the commands, and one that cannot be carried out."""
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    unfit = encode(Command("log_level", "trace", "chaos", "chaos", time.time_ns()))
    for payload in (b"\xff\xfe", b"[" * 10_000, b"rubbish", b"", unfit):
        producer.produce(topic, payload, partition=0)
    if producer.flush(10.0):
        raise ServiceUnavailable(f"nothing could be written to {topic}")


def wait_until_decided(
    settings: StackSettings, group: str, ticks: str, ends: dict[int, int], timeout_s: float
) -> bool:
    """Whether a group's committed offsets of the ticks reach `ends` in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        # A new one each time: after a broker's restart an old one may look for its coordinator for long.
        consumer = reader(settings.kafka_bootstrap, group)
        try:
            found = consumer.committed([TopicPartition(ticks, p) for p in ends], 10.0)
        except KafkaException:
            continue
        finally:
            consumer.close()
        if all(place.offset >= ends[place.partition] for place in found):
            return True
        time.sleep(0.1)
    return False


def symbols() -> str:
    """The feed's symbols, as the gateway's setting wants them."""
    return ",".join(f"SIM{k}" for k in range(SYMBOLS))

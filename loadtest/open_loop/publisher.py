"""Sends planned ticks to Kafka at their times and remembers what was meant when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from msgspec import Struct, structs

from connectors.kafka.client import KafkaError, KafkaException, Message, Producer
from connectors.kafka.errors import silent, translated
from connectors.kafka.messages import sent_header
from loadtest.open_loop.schedule import Planned
from trading.encoding import encode
from trading.errors import ServiceUnavailable
from trading.market import Tick

#: Below this the operating system cannot sleep with any accuracy.
SHORTEST_SLEEP_S = 0.0002
PROGRESS_EVERY_S = 0.1
START_DELAY_S = 1.0


class Published(Struct):
    """What a run sent.

    Attributes:
        intended_ns: (partition, offset) -> wall-clock time at which the tick was meant to be sent.
        sent: ticks handed to the producer.
        worst_lag_s: how late the sender itself was at worst.
        seconds: length of the run.
    """

    intended_ns: dict[tuple[int, int], int]
    sent: int = 0
    worst_lag_s: float = 0.0
    seconds: float = 0.0


class TickPublisher:
    """An idempotent producer, keyed by symbol."""

    def __init__(self, bootstrap: str, topic: str, *, log_level: int = 3) -> None:
        """Connect. `log_level`: of what the client says by itself, 0 is nothing. Raises ServiceUnavailable."""
        self._topic = topic
        self._failure = ""
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 2,
                "compression.type": "lz4",
                "message.timeout.ms": 30_000,
                "log_level": log_level,
            }
        )
        try:
            topics = self._producer.list_topics(timeout=5.0).topics
        except KafkaException as error:
            # What the client met by itself, as a password that is refused, is told here.
            self._producer.poll(0)
            raise translated(error, silent(bootstrap)) from error
        if topic not in topics:
            raise ServiceUnavailable(f"topic {topic} does not exist on {bootstrap}")

    def publish(
        self,
        plan: Iterator[Planned],
        *,
        shift_to_now: bool = False,
        progress: Callable[[Published], None] = lambda _: None,
        keep_times: bool = True,
    ) -> Published:
        """Send every tick at its time.

        Args:
            plan: ticks and times.
            shift_to_now: each tick happens when it is meant to be sent.
            progress: called about ten times a second.
            keep_times: remember the intended time of every tick (memory linear in ticks).

        Raises:
            ServiceUnavailable: a tick was not delivered.
        """
        done = Published({})
        # The producer connects and gets its id meanwhile; no tick is meant to wait for that.
        self._producer.poll(START_DELAY_S)
        start, wall = time.perf_counter(), time.time_ns()
        next_progress = start
        for planned in plan:
            tick = planned.record.tick
            if shift_to_now:
                event_time_ns = wall + planned.after_ns if planned.after_ns else time.time_ns()
                tick = structs.replace(tick, event_time_ns=event_time_ns)
            late = time.perf_counter() - start - planned.after_ns / 1e9
            if late < -SHORTEST_SLEEP_S:
                self._producer.poll(0)
                time.sleep(max(0.0, start + planned.after_ns / 1e9 - time.perf_counter()))
                late = time.perf_counter() - start - planned.after_ns / 1e9
            intended = wall + planned.after_ns if planned.after_ns or late < 0.001 else time.time_ns()
            done.worst_lag_s = max(done.worst_lag_s, late if planned.after_ns else 0.0)
            self._send(tick, intended, done if keep_times else None)
            done.sent += 1
            if time.perf_counter() >= next_progress:
                next_progress = time.perf_counter() + PROGRESS_EVERY_S
                done.seconds = time.perf_counter() - start
                progress(done)
        left = self._producer.flush(30.0)
        if left or self._failure:
            raise ServiceUnavailable(f"{left or 'some'} ticks were not delivered: {self._failure or 'timed out'}")
        done.seconds = time.perf_counter() - start
        progress(done)
        return done

    def _send(self, tick: Tick, intended_ns: int, done: Published | None) -> None:
        report = partial(self._report, intended_ns, done)
        while True:
            try:
                headers = [sent_header(time.time_ns())]
                self._producer.produce(
                    self._topic, encode(tick), tick.symbol.encode(), on_delivery=report, headers=headers
                )
            except BufferError:
                self._producer.poll(0.01)
            else:
                self._producer.poll(0)
                return

    def _report(self, intended_ns: int, done: Published | None, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failure = error.str()
        elif done is not None:
            done.intended_ns[int(message.partition() or 0), int(message.offset() or 0)] = intended_ns

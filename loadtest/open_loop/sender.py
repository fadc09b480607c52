"""The sender's process: everything is prepared, then each tick goes when it is due.

It notes of each tick when it was meant and when it was handed to the client library, as pairs of int64 in one
file a partition: memory does not grow with the run.
"""

from __future__ import annotations

import gc
import time
import zlib
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from connectors.kafka.client import KafkaError, KafkaException, Message, Producer
from connectors.kafka.identity import act_as
from connectors.kafka.messages import sent_header
from loadtest.errors import InvalidInput, InvalidRun
from loadtest.open_loop.child_process import PROGRESS, READY, Orders, ends_of, run, say, sentence
from loadtest.open_loop.pacing import Monotonic, pace
from loadtest.open_loop.schedule import Nanoseconds, Speed, until
from trading.encoding import encode
from trading.history import open_source
from trading.market import Tick

#: Ticks of the source that are held; a longer run begins again with the first, or reads on while it sends.
MAX_HELD = 300_000
#: Ticks that are made ready together.
PIECE = 16
#: From the word to the first tick: the client library connects and gets its producer's id.
LEAD_NS = 500_000_000
PROGRESS_NS = 500_000_000
FLUSH_S = 60.0
#: Pairs that wait to be written.
BUFFERED = 8192
MARK = b'"event_time_ns":'


class Recorded:
    """A tick's JSON as it is: the tick happened when the source says."""

    __slots__ = ("key", "partition", "payload")

    def __init__(self, tick: Tick, partitions: int) -> None:
        self.payload = encode(tick)
        self.key = tick.symbol.encode()
        # As librdkafka's consistent partitioner does for other clients: a symbol has one partition.
        self.partition = zlib.crc32(self.key) % partitions

    def at(self, _: int) -> bytes:
        """The JSON, whenever it is sent."""
        return self.payload


class Template(Recorded):
    """A tick's JSON with a gap for its time: each tick happens when it is meant to be sent."""

    __slots__ = ("after", "before")

    def __init__(self, tick: Tick, partitions: int) -> None:
        super().__init__(tick, partitions)
        begin = self.payload.index(MARK) + len(MARK)
        self.before = self.payload[:begin]
        self.after = self.payload[begin + len(str(tick.event_time_ns)) :]

    def at(self, event_time_ns: int) -> bytes:
        """The JSON of a tick of that time."""
        return b"%b%d%b" % (self.before, event_time_ns, self.after)


class Desk:
    """Sends to the topic of ticks, and keeps the times."""

    def __init__(self, spec: dict[str, Any], ticks: Iterator[Recorded], partitions: int, out: Path) -> None:
        self._ticks, self._topic = ticks, spec["topic"]
        self._failure: KafkaError | None = None
        self._producer = Producer(
            {
                "bootstrap.servers": spec["bootstrap"],
                "enable.idempotence": True,
                "linger.ms": spec["linger_ms"],
                "compression.type": "lz4",
                "queue.buffering.max.messages": 1_000_000,
                "delivery.report.only.error": True,
                "on_delivery": self._refused,
                "log_level": 0,
            }
        )
        self._times = [array("q") for _ in range(partitions)]
        self._files: list[BinaryIO] = [(out / f"sent_{p}.bin").open("wb") for p in range(partitions)]
        self.sent = [0] * partitions
        self._now_ns = Monotonic.now_ns
        #: What to add to a monotonic time to have the time of day.
        self.wall_ns = time.time_ns() - Monotonic.now_ns()
        self._worst_ns, self._next_ns = 0, 0

    def connect(self) -> None:
        """Before the clock starts."""
        self._producer.poll(LEAD_NS / 1e9)

    def send(self, number: int, due_ns: int) -> None:
        """Hand one tick to the client library; a full queue is waited for, and that is lag."""
        tick = next(self._ticks)
        payload = tick.at(due_ns + self.wall_ns)
        while True:
            now = self._now_ns()
            try:
                self._producer.produce(
                    self._topic,
                    payload,
                    tick.key,
                    tick.partition,
                    headers=[sent_header(now + self.wall_ns)],
                )
                break
            except BufferError:
                self._producer.poll(0.001)
        self.sent[tick.partition] += 1
        self._times[tick.partition].extend((due_ns, now))
        self._worst_ns = max(self._worst_ns, now - due_ns)
        if len(self._times[tick.partition]) >= BUFFERED:
            self._write(tick.partition)
        if now >= self._next_ns:
            self._next_ns = now + PROGRESS_NS
            say(PROGRESS, {"sent": number + 1, "lag_ms": self._worst_ns / 1e6})
            self._worst_ns = 0
            self.idle()

    def idle(self) -> None:
        """Serve the client library."""
        self._producer.poll(0)
        if self._failure is not None:
            raise InvalidRun(f"a tick was not delivered: {sentence(KafkaException(self._failure))}")

    def finish(self) -> None:
        """Until all is delivered and written. Raises InvalidRun."""
        left = self._producer.flush(FLUSH_S)
        self.idle()
        if left:
            raise InvalidRun(f"{left} ticks were not delivered within {FLUSH_S:.0f} s")
        for partition, file in enumerate(self._files):
            self._write(partition)
            file.close()

    def _write(self, partition: int) -> None:
        self._times[partition].tofile(self._files[partition])
        del self._times[partition][:]

    def _refused(self, error: KafkaError | None, _: Message) -> None:
        self._failure = self._failure or error


def prepare(spec: dict[str, Any], partitions: int) -> tuple[Nanoseconds, Iterator[Recorded]]:
    """When the source's ticks arrived, and the ticks: each once as it is, or again and again, each at its new time.

    Of ticks that are sent once it is known only where their gaps are asked for: the source may be long. Raises
    SourceError for what cannot be read.
    """
    limit, source = spec["limit"], open_source(spec["source"])
    if not spec["as_recorded"]:
        records = list(islice(source.records(), min(limit or MAX_HELD, MAX_HELD)))
        held = [Template(r.tick, partitions) for r in records]
        return np.array([r.arrival_ns for r in records], np.int64), cycle(held)
    looked_at = limit if Speed.parse(spec["speed"]).kind == "recorded" else 0
    arrived = np.fromiter((r.arrival_ns for r in islice(source.records(), looked_at)), np.int64)
    ticks = (Recorded(r.tick, partitions) for r in islice(source.records(), limit))
    return arrived, chain(list(islice(ticks, MAX_HELD)), ticks)


class Lasting:
    """Ticks, and a schedule that ends with them."""

    def __init__(self, ticks: Iterator[Recorded], schedule: Iterable[Nanoseconds]) -> None:
        self._ticks, self._schedule = ticks, schedule
        self._ready: deque[Recorded] = deque()

    def __iter__(self) -> Iterator[Recorded]:
        """Those that the schedule has come to."""
        return self

    def __next__(self) -> Recorded:
        """The next."""
        return self._ready.popleft()

    def schedule(self) -> Iterator[Nanoseconds]:
        """The arrivals, in chunks, as far as there are ticks."""
        for chunk in self._schedule:
            # A few at a time: what is not held is read here, and no tick is to wait for many of them.
            for begin in range(0, len(chunk), PIECE):
                piece = chunk[begin : begin + PIECE]
                self._ready.extend(islice(self._ticks, len(piece)))
                count = len(self._ready)
                yield piece[:count]
                if count < len(piece):
                    return


def send(spec: dict[str, Any], orders: Orders) -> dict[str, Any]:
    """Prepare, wait for the word, send; returns where the topic of ticks began and ends."""
    bases = ends_of(spec["bootstrap"], spec["topic"])
    arrived, ticks = prepare(spec, len(bases))
    speed = Speed.parse(spec["speed"])
    if speed.kind == "recorded" and arrived.max() == arrived[0]:
        raise InvalidInput(f"{spec['source']}: all its ticks arrived at one moment, and have no gaps: give a rate")
    arrivals = until(speed.arrivals(spec["seed"], arrived), limit=spec["limit"], duration_s=spec["duration_s"])
    lasting = Lasting(ticks, arrivals)
    desk = Desk(spec, lasting, len(bases), Path(spec["out"]))
    desk.connect()
    gc.collect()
    gc.freeze()
    say(READY)
    orders.wait()
    start_ns = Monotonic.now_ns() + LEAD_NS
    count = pace(lasting.schedule(), desk.send, Monotonic, start_ns, desk.idle)
    desk.finish()
    say(PROGRESS, {"sent": count})
    ends = ends_of(spec["bootstrap"], spec["topic"])
    for partition, base in bases.items():
        if ends[partition] != base + desk.sent[partition]:
            raise InvalidRun(
                f"partition {partition} of {spec['topic']} grew by {ends[partition] - base} ticks where "
                f"{desk.sent[partition]} were sent: somebody else sends to it"
            )
    return {"start_ns": start_ns, "sent": count, "bases": bases, "ends": ends}


if __name__ == "__main__":
    act_as("sender")
    run(send)

"""The reader's process: notes when each decision became visible to a read-committed consumer, and no more."""

from __future__ import annotations

import gc
import json
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from connectors.kafka.client import Consumer, KafkaException, Message, TopicPartition
from connectors.kafka.identity import act_as
from connectors.kafka.reading import consume_ready
from loadtest.errors import InvalidRun
from loadtest.open_loop.child_process import PROGRESS, READY, Orders, ends_of, run, say
from loadtest.open_loop.pacing import Monotonic
from trading.decision import wire
from trading.decision.schema import REASONS

#: The rows, and the decisions themselves, one after another, where they are to be kept.
SEEN, WHOLE = "seen.bin", "decisions.bin"
#: Of each decision: its tick's partition and offset, when it was visible, why it is what it is, and its size.
ROW = np.dtype([("partition", "<i4"), ("reason", "<i2"), ("offset", "<i8"), ("visible_ns", "<i8"), ("size", "<i4")])
CODES = {reason.value.encode(): code for code, reason in enumerate(REASONS)}
UNKNOWN = -1
#: As in ROW: partition, reason, offset, when visible, size.
Row = tuple[int, int, int, int, int]
BATCH = 2000
BUFFERED = 50_000
PROGRESS_S = 0.5


def read(spec: dict[str, Any], orders: Orders) -> dict[str, Any]:
    """Read from the end as it is now, until told where the ticks end and all of them were seen.

    Without a new decision for `quiet_s` after that it gives up; what is missing is the result.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": spec["bootstrap"],
            "group.id": "ultrathink-loadtest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 100,
            "log_level": 0,
        }
    )
    starts = ends_of(spec["bootstrap"], spec["topic"])
    origins = ends_of(spec["bootstrap"], spec["ticks_topic"])
    consumer.assign([TopicPartition(spec["topic"], p, end) for p, end in starts.items()])
    consumer.poll(0.2)
    gc.collect()
    gc.freeze()
    say(READY)
    try:
        with Path(spec["out"], SEEN).open("wb") as file, Path(spec["out"], WHOLE).open("wb") as whole:
            rows = Rows(file, origins, whole if spec["keep"] else None)
            return {"seen": follow(consumer, orders, rows, spec["quiet_s"])}
    finally:
        consumer.close()


#: A partition has not so many: a decision that names a later tick is of nobody.
MOST_TICKS = 1_000_000_000


class Rows:
    """What was seen and not written yet, and which ticks of each partition are decided, a byte a tick."""

    def __init__(self, file: BinaryIO, origins: dict[int, int], whole: BinaryIO | None = None) -> None:
        """Nothing was seen yet.

        Args:
            file: where rows go.
            origins: the next offset of each partition of ticks before anything was sent.
            whole: where decisions go, one after another.
        """
        self.seen = 0
        self.ends: dict[int, int] | None = None
        self._origins = origins
        self._decided = {partition: bytearray() for partition in origins}
        self._waiting: list[Row] = []
        self._file, self._whole = file, whole

    @property
    def complete(self) -> bool:
        """Whether every tick that was sent has been decided, in whatever order."""
        return self.ends is not None and all(
            self._decided[p].count(1, 0, end - self._origins[p]) == end - self._origins[p]
            for p, end in self.ends.items()
        )

    def add(self, messages: list[Message], visible_ns: int) -> bool:
        """Keep what became visible at once; returns whether there was anything worth waiting for.

        Raises KafkaException for a message that is an error, and InvalidRun, where all are kept, for no decision.
        """
        news = False
        for message in messages:
            if message.error() is not None:
                raise KafkaException(message.error())
            payload = message.value() or b""
            row = row_of(payload, visible_ns)
            if row is None and self._whole is None:
                continue
            if row is None:
                raise InvalidRun(f"{message.topic()}[{message.partition()}] has a record that is no decision")
            if self._whole is not None:
                self._whole.write(payload)
            news = self._mark(row[0], row[2]) or news
            self._waiting.append(row)
        self.seen += len(messages)
        if len(self._waiting) >= BUFFERED:
            self.write()
        return news

    def _mark(self, partition: int, offset: int) -> bool:
        """Note a decided tick; returns whether it is one worth waiting for: ours, and new."""
        place = offset - self._origins.get(partition, offset + 1)
        if not 0 <= place < MOST_TICKS:
            return False
        decided = self._decided[partition]
        if place >= len(decided):
            decided.extend(bytes(place + 1 - len(decided)))
        new = not decided[place]
        decided[place] = 1
        # Once all ticks are sent, decisions of somebody else's are not waited for.
        return new and (self.ends is None or offset < self.ends.get(partition, 0))

    def write(self) -> None:
        """Append to the file, and forget."""
        np.array(self._waiting, ROW).tofile(self._file)
        self._waiting.clear()


def follow(consumer: Consumer, orders: Orders, rows: Rows, quiet_s: float) -> int:
    """Until the end; returns how many decisions were seen."""
    quiet_since, told_at = time.monotonic(), 0.0
    while not rows.complete:
        if rows.ends is None and (line := orders.take()) is not None:
            rows.ends = {int(p): end for p, end in json.loads(line).items()}
            quiet_since = time.monotonic()
        messages = consume_ready(consumer, BATCH, 0.05)
        if messages and rows.add(messages, Monotonic.now_ns()):
            quiet_since = time.monotonic()
        now = time.monotonic()
        if now - told_at >= PROGRESS_S:
            told_at = now
            say(PROGRESS, {"seen": rows.seen})
        if rows.ends is not None and now - quiet_since > quiet_s:
            break
    rows.write()
    return rows.seen


def row_of(payload: bytes, visible_ns: int) -> Row | None:
    """A row, without decoding what is not needed; None for what is no decision."""
    try:
        partition, offset = wire.place_in(payload)
        return partition, CODES.get(wire.reason_in(payload), UNKNOWN), offset, visible_ns, len(payload)
    except ValueError:
        return None


if __name__ == "__main__":
    act_as("reader")
    run(read)

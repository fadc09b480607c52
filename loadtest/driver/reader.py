"""The reader's process: notes when each decision became visible to a read-committed consumer, and no more."""

from __future__ import annotations

import gc
import json
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from confluent_kafka import Consumer, KafkaException, TopicPartition

from gateway.domain.schemas import REASONS
from loadtest.driver.peer import PROGRESS, READY, Orders, ends_of, run, say
from loadtest.pacing import Monotonic

#: Of each decision: its tick's partition and offset, when it was visible, why it is what it is, and its size.
ROW = np.dtype([("partition", "<i4"), ("reason", "<i2"), ("offset", "<i8"), ("visible_ns", "<i8"), ("size", "<i4")])
#: A decision begins so; the tick's topic, partition and offset follow.
ID_AT = len(b'{"decision_id":"')
REASON = b'"reason":"'
CODES = {reason.value.encode(): code for code, reason in enumerate(REASONS)}
UNKNOWN = -1
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
    consumer.assign([TopicPartition(spec["topic"], p, end) for p, end in starts.items()])
    consumer.poll(0.2)
    gc.collect()
    gc.freeze()
    say(READY)
    try:
        with Path(spec["out"], "seen.bin").open("wb") as file:
            return {"seen": follow(consumer, orders, file, spec["quiet_s"])}
    finally:
        consumer.close()


def follow(consumer: Consumer, orders: Orders, file: BinaryIO, quiet_s: float) -> int:
    """Until the end; returns how many decisions were seen."""
    latest: dict[int, int] = {}
    ends: dict[int, int] | None = None
    waiting: list[tuple[int, int, int, int, int]] = []
    seen, quiet_since, told_at = 0, time.monotonic(), 0.0
    while ends is None or any(latest.get(p, -1) < end - 1 for p, end in ends.items()):
        if ends is None and (line := orders.take()) is not None:
            ends = {int(p): end for p, end in json.loads(line).items()}
            quiet_since = time.monotonic()
        first = consumer.poll(0.05)
        now = time.monotonic()
        if now - told_at >= PROGRESS_S:
            told_at = now
            say(PROGRESS, {"seen": seen})
        if first is None:
            if ends is not None and now - quiet_since > quiet_s:
                break
            continue
        messages = [first, *consumer.consume(BATCH, 0)]
        visible_ns = Monotonic.now_ns()
        for message in messages:
            if message.error() is not None:
                raise KafkaException(message.error())
            row = row_of(message.value() or b"", visible_ns)
            if row is not None:
                latest[row[0]] = row[2]
                waiting.append(row)
        seen += len(messages)
        quiet_since = now
        if len(waiting) >= BUFFERED:
            write(file, waiting)
    write(file, waiting)
    return seen


def row_of(payload: bytes, visible_ns: int) -> tuple[int, int, int, int, int] | None:
    """A row, without decoding what is not needed; None for what is no decision."""
    try:
        _, partition, offset = payload[ID_AT : payload.index(b'"', ID_AT)].rsplit(b"-", 2)
        begin = payload.index(REASON) + len(REASON)
        reason = CODES.get(payload[begin : payload.index(b'"', begin)], UNKNOWN)
        return int(partition), reason, int(offset), visible_ns, len(payload)
    except ValueError:
        return None


def write(file: BinaryIO, waiting: list[tuple[int, int, int, int, int]]) -> None:
    """Append rows, and forget them."""
    np.array(waiting, ROW).tofile(file)
    waiting.clear()


if __name__ == "__main__":
    run(read)

"""Sends ticks and reads decisions, each in a process of its own: what measures must not wait for what it measures.

`python -m benchmarks.load send|read ...` is what `drive` starts. An open model: every tick has its time
before the run begins, and latency counts from there, whatever the sender or the system does.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
import zlib
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from msgspec import Struct, structs

from gateway.domain.codec import encode
from gateway.history import Record, open_source
from loadtest.schedule import Speed, plan

TICKS, DECISIONS = "market.ticks", "trading.decisions"
#: The sender sleeps at least so long, and then sends what is due.
SHORTEST_SLEEP_S = 0.001
#: Without a new decision for so long, the reader gives up.
QUIET_S = 20.0
#: From preparing to sending: so much, and so much a tick.
START_DELAY_NS, PREPARE_NS = 3_000_000_000, 40_000


class Driven(Struct, frozen=True):
    """A run. Latency in milliseconds, from intended send to visible for a read-committed reader."""

    ticks: int
    missing: int
    repeated: int
    offered_per_s: float
    achieved_per_s: float
    sender_lag_p99_ms: float
    p50_ms: float
    p99_ms: float
    p99_9_ms: float
    max_ms: float
    late_share: float
    superseded_share: float
    bytes_a_decision: float
    seconds: float


def drive(
    bootstrap: str, source: str, speed: str, limit: int, *, warm_up_s: float = 2.0, repeat: int = 1
) -> Driven:
    """Send `limit` ticks of a source through the desk that runs, and read every decision.

    What was meant to be sent in the first `warm_up_s` is left out of the latencies. `repeat` plays the
    source again and again, its event times moved on.
    """
    with tempfile.TemporaryDirectory() as folder:
        sent, seen = Path(folder) / "sent.npz", Path(folder) / "seen.npz"
        reader = start("read", bootstrap, seen)
        expect(reader, "ready")
        sender = start("send", bootstrap, sent, source, speed, str(limit), str(repeat))
        expect(sender, "ready")
        tell(sender, "go")
        ends = expect(sender, "sent")
        tell(reader, ends)
        expect(reader, "seen")
        for process in (sender, reader):
            process.wait(30)
        return compare(dict(np.load(sent)), dict(np.load(seen)), warm_up_s)


def send_only(bootstrap: str, source: str, speed: str, limit: int) -> None:
    """Send ticks that nobody reads the decisions of: a backlog."""
    with tempfile.TemporaryDirectory() as folder:
        sender = start("send", bootstrap, Path(folder) / "sent.npz", source, speed, str(limit), "1")
        expect(sender, "ready")
        tell(sender, "go")
        expect(sender, "sent")
        sender.wait(30)


def compare(sent: dict[str, Any], seen: dict[str, Any], warm_up_s: float) -> Driven:
    """Join both sides by partition and offset."""
    latencies, missing, repeated, first_ns, last_ns, seconds = [], 0, 0, [], [], []
    start_ns = min(int(v[0]) for k, v in sent.items() if k.startswith("intended") and len(v))
    for name in (k for k in sent if k.startswith("intended")):
        partition = name.removeprefix("intended_")
        intended, base = sent[name], int(sent[f"base_{partition}"])
        offsets = seen.get(f"offset_{partition}", np.zeros(0, np.int64)) - base
        visible = seen.get(f"visible_{partition}", np.zeros(0, np.int64))
        ours = (offsets >= 0) & (offsets < len(intended))
        offsets, visible = offsets[ours], visible[ours]
        distinct, first = np.unique(offsets, return_index=True)
        missing += len(intended) - len(distinct)
        repeated += len(offsets) - len(distinct)
        counted = intended[distinct] >= start_ns + warm_up_s * 1e9
        latencies.append((visible[first] - intended[distinct])[counted] / 1e6)
        first_ns += [int(intended[0])] if len(intended) else []
        last_ns += [int(intended[-1])] if len(intended) else []
        seconds += [int(visible.max())] if len(visible) else []
    latency = np.concatenate(latencies)
    ticks = sum(len(v) for k, v in sent.items() if k.startswith("intended"))
    p50, p99, p99_9 = np.percentile(latency, (50, 99, 99.9)).tolist() if len(latency) else [float("nan")] * 3
    span_s = max(1e-9, (max(last_ns) - min(first_ns)) / 1e9)
    return Driven(
        ticks=ticks,
        missing=missing,
        repeated=repeated,
        offered_per_s=ticks / span_s,
        achieved_per_s=ticks / max(1e-9, (max(seconds, default=0) - min(first_ns)) / 1e9),
        sender_lag_p99_ms=float(np.percentile(sent["lag_ms"], 99)),
        p50_ms=p50,
        p99_ms=p99,
        p99_9_ms=p99_9,
        max_ms=float(latency.max(initial=0.0)),
        late_share=float(seen["late"]) / max(1, ticks),
        superseded_share=float(seen["superseded"]) / max(1, ticks),
        bytes_a_decision=float(seen["bytes"]) / max(1, float(seen["count"])),
        seconds=span_s,
    )


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load", *map(str, arguments)],
        cwd=Path(__file__).resolve().parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def expect(process: subprocess.Popen[str], word: str) -> str:
    """The rest of a line that begins with `word`."""
    line = pipe(process.stdout).readline()
    if not line.startswith(word):
        raise RuntimeError(f"benchmarks.load said {line!r} where {word!r} was expected")
    return line.removeprefix(word).strip()


def tell(process: subprocess.Popen[str], line: str) -> None:
    stream = pipe(process.stdin)
    stream.write(line + "\n")
    stream.flush()


def pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise RuntimeError("the process has no pipe")
    return stream


# ---- the sender's process -------------------------------------------------------------------


def send(bootstrap: str, out: str, source: str, speed: str, limit: str, repeat: str) -> None:
    """Prepare everything, then send each tick when it is due."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 1, "compression.type": "lz4",
         "queue.buffering.max.messages": 1_000_000, "log_level": 3}
    )  # fmt: skip
    partitions = len(producer.list_topics(TICKS, timeout=5.0).topics[TICKS].partitions)
    wall = time.time_ns() + START_DELAY_NS + int(limit) * int(repeat) * PREPARE_NS
    prepared = list(prepare(source, speed, int(limit), int(repeat), partitions, wall))
    bases = ends_of(bootstrap, TICKS)
    sent: list[list[int]] = [[] for _ in range(partitions)]
    lag_ms = []
    # Connected, and with its producer's id, before the clock starts.
    producer.poll(1.0)
    gc.collect()
    gc.freeze()
    say("ready")
    sys.stdin.readline()
    wait_s = (wall - time.time_ns()) / 1e9
    if wait_s < 0:
        raise RuntimeError(f"preparing {len(prepared):,} ticks took {-wait_s:.1f} s too long")
    time.sleep(wait_s)
    began, produce, n, k = time.perf_counter_ns(), producer.produce, len(prepared), 0
    while k < n:
        now = time.perf_counter_ns() - began
        wait_s = (prepared[k][0] - now) / 1e9
        if wait_s > 0:
            producer.poll(0)
            time.sleep(max(SHORTEST_SLEEP_S, wait_s))
            continue
        lag_ms.append(-wait_s * 1e3)
        while k < n and prepared[k][0] <= now:
            after, partition, key, payload = prepared[k]
            try:
                produce(TICKS, payload, key, partition=partition)
            except BufferError:
                producer.poll(0.001)
                continue
            sent[partition].append(after)
            k += 1
    producer.flush(60.0)
    ends = {p: bases[p] + len(sent[p]) for p in range(partitions) if sent[p]}
    arrays: dict[str, Any] = {f"intended_{p}": np.array(s, np.int64) + wall for p, s in enumerate(sent)}
    np.savez(out, lag_ms=np.array(lag_ms), **arrays, **{f"base_{p}": bases[p] for p in range(partitions)})
    say(f"sent {json.dumps(ends)}")


def prepare(source: str, speed: str, limit: int, repeat: int, partitions: int, wall: int) -> Any:
    """After how many ns, partition, key, payload; partitioned as librdkafka would.

    Each tick happens when it is meant to be sent: the stream's clock goes on from one run to the next.
    """
    once = list(islice(open_source(source).records(), limit))
    arrived = max(r.arrival_ns for r in once) - once[0].arrival_ns + 1
    records = (Record(r.arrival_ns + k * arrived, r.tick) for k in range(repeat) for r in once)
    for planned in plan(records, Speed.parse(speed)):
        tick = structs.replace(planned.record.tick, event_time_ns=wall + planned.after_ns)
        key = tick.symbol.encode()
        yield planned.after_ns, zlib.crc32(key) % partitions, key, encode(tick)


# ---- the reader's process -------------------------------------------------------------------


def read(bootstrap: str, out: str) -> None:
    """Note when each decision became visible, until told where to end."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "benchmark-reader", "enable.auto.commit": False,
         "isolation.level": "read_committed", "fetch.wait.max.ms": 100, "log_level": 3}
    )  # fmt: skip
    consumer.assign([TopicPartition(DECISIONS, p, end) for p, end in ends_of(bootstrap, DECISIONS).items()])
    payloads: list[bytes] = []
    batches: list[tuple[int, int]] = []
    ends: dict[int, int] = {}
    latest: dict[int, int] = {}
    told = Told()
    consumer.poll(0.2)
    gc.disable()
    say("ready")
    quiet_since = time.monotonic()
    while not ends or any(latest.get(p, -1) < end - 1 for p, end in ends.items()):
        if not ends and told.line:
            ends = {int(p): end for p, end in json.loads(told.line).items()}
            latest = newest(payloads)
            quiet_since = time.monotonic()
        first = consumer.poll(0.05)
        if first is None:
            if ends and time.monotonic() - quiet_since > QUIET_S:
                break
            continue
        messages = [first, *consumer.consume(2000, 0)]
        now_ns = time.time_ns()
        found = [m.value() for m in messages if m.error() is None]
        batches.append((now_ns, len(found)))
        payloads += found
        if ends:
            latest |= newest(found)
        quiet_since = time.monotonic()
    consumer.close()
    save(out, payloads, batches)
    say("seen")


def newest(payloads: list[bytes]) -> dict[int, int]:
    """Partition -> the last offset decided; a partition's decisions come in order."""
    return dict(map(place_of, payloads))


def save(out: str, payloads: list[bytes], batches: list[tuple[int, int]]) -> None:
    places = np.array([place_of(p) for p in payloads], np.int64).reshape(-1, 2)
    visible = np.repeat([at for at, _ in batches], [n for _, n in batches])
    arrays: dict[str, Any] = {}
    for partition in np.unique(places[:, 0]).tolist():
        mine = places[:, 0] == partition
        arrays[f"offset_{partition}"], arrays[f"visible_{partition}"] = places[mine, 1], visible[mine]
    np.savez(
        out,
        late=sum(b'"reason":"deadline_exceeded"' in p for p in payloads),
        superseded=sum(b'"reason":"superseded"' in p for p in payloads),
        bytes=sum(map(len, payloads)),
        count=len(payloads),
        **arrays,
    )


def place_of(payload: bytes) -> tuple[int, int]:
    """Partition and offset from {"decision_id":"market.ticks-P-O", without decoding the rest."""
    _, partition, offset = payload[16 : payload.index(b'"', 16)].rsplit(b"-", 2)
    return int(partition), int(offset)


class Told:
    """A line from standard input, waited for in a thread."""

    def __init__(self) -> None:
        import threading

        self.line = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        self.line = sys.stdin.readline()


def ends_of(bootstrap: str, topic: str) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "benchmark-bounds", "log_level": 3})
    partitions = consumer.list_topics(topic, timeout=5.0).topics[topic].partitions
    found = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), 5.0)[1] for p in partitions}
    consumer.close()
    return found


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("send", "read"))
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    {"send": send, "read": read}[given.role](*given.arguments)


if __name__ == "__main__":
    main()

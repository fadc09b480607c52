"""`make bench`, the trail's part: how fast it stores, what a COPY alone would, how far it lags, what proofs cost.

Brings up a stack of its own, has ticks decided into a topic, and stops the gateway. The ratio is of our store and a
bare COPY of the same bytes into a table with the same columns and indexes, in turns, in one run.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path

from benchmarks.figures import BenchmarkFigures, say
from benchmarks.load import send_only
from connectors import postgres
from connectors.kafka.client import Producer
from connectors.kafka.reading import read_to_end
from connectors.kafka.topics import TOPICS
from services.forensics.bootstrap import migrate_trail
from services.forensics.checkpoint_files import CheckpointFiles
from services.forensics.ports import LogName
from services.forensics.proving import check, prove_record, to_file
from services.forensics.records import Record
from services.forensics.replaying import Span, replay_span
from services.forensics.settings import ForensicsSettings
from services.forensics.source import to_record
from services.forensics.store.reading import opened
from services.forensics.store.writer import TrailWriter
from services.forensics.tick_log import KafkaTicks
from services.forensics.verification import verify
from stack.processes.forensics import running_forensics, settings_with_key
from stack.processes.gateway import running_gateway
from stack.servers.settings import StackSettings
from stack.workflows.sandbox import MODELS, sandbox
from trading.keys import Keys, public_keys, public_path

TICKS, TURNS, BATCH = 120_000, 5, 4000
MARKET = f"simulate:regimes?ticks={TICKS}&symbols=16"
LAG_RATE, LAG_S = 5_000, 20
FOREVER_MS = 3_600_000

figures = BenchmarkFigures("forensics", "forensics: everything on record, signed and proven")
tell = figures.tell


def decided(settings: StackSettings) -> list[Record]:
    """Real decisions, in a topic whose gateway is stopped; those of the first partition with any."""
    send_only(settings.kafka_bootstrap, MARKET, "max", TICKS)
    with running_gateway(settings, model_name=MODELS[1], budget_ms=FOREVER_MS) as running:
        while running.decided() < TICKS:
            time.sleep(0.2)
    found: list[Record] = []
    for partition in range(settings.partitions):
        for chunk in read_to_end(settings.kafka_bootstrap, TOPICS.decisions, partition, 0):
            found += [to_record(message) for message in chunk]
    return found


def batches(records: list[Record], count: int) -> Iterator[list[Record]]:
    """The same bytes again and again, each at an offset of its own."""
    endless = enumerate(cycle(records))
    while chunk := list(islice(endless, BATCH)):
        if chunk[0][0] >= count:
            return
        yield [Record(offset, r.timestamp_type, r.timestamp_ms, r.key, r.value, r.headers) for offset, r in chunk]


def against_copy(settings: StackSettings, records: list[Record]) -> None:
    """Our store in turns with a COPY of what it stored."""
    say("COPY, in turns:")
    owner = settings.postgres_url("ultrathink")
    migrate_trail(owner)
    per_turn, ratios, ours = 40_000, [], []
    with closing(postgres.connect_url(owner)) as connection:
        connection.autocommit = True
        connection.execute("CREATE TABLE bare (LIKE trail.decisions INCLUDING ALL)")
        writer = TrailWriter(settings.postgres_url("forensics", "ultrathink"))
        for turn in range(TURNS):
            name = LogName(f"bench-{turn}", 0, "bench")
            head = writer.open(name, "decisions")
            chunks = list(batches(records, per_turn))
            began = time.perf_counter()
            for chunk in chunks:
                writer.store({name: chunk})
            ours.append(per_turn / (time.perf_counter() - began))
            blocks = [block_of(connection, head.id, first, first + BATCH) for first in range(0, per_turn, BATCH)]
            began = time.perf_counter()
            for block in blocks:
                with (
                    connection.transaction(),
                    connection.cursor() as cursor,
                    cursor.copy("COPY bare FROM STDIN (FORMAT BINARY)") as copy,
                ):
                    copy.write(block)
            ratios.append(ours[-1] / (per_turn / (time.perf_counter() - began)))
        writer.close()
        connection.execute("DROP TABLE bare")
    say(f"    ratios {', '.join(f'{r:.2f}' for r in ratios)}")
    tell("store, leaves, trees and columns included", statistics.median(ours), "decisions/s", at_least=8000)
    tell("over a bare COPY of the same bytes and indexes", statistics.median(ratios), "times", at_least=0.5)


def block_of(connection: postgres.Connection, log: int, first: int, end: int) -> bytes:
    """Rows as COPY takes them."""
    rows = f"SELECT * FROM trail.decisions WHERE log = {log} AND record_offset BETWEEN {first} AND {end - 1}"
    query = f"COPY ({rows}) TO STDOUT (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        return b"".join(bytes(part) for part in copy)


def wiped(settings: StackSettings) -> None:
    """A database that knows nothing."""
    with closing(postgres.connect_url(settings.postgres_url("ultrathink"))) as connection:
        connection.autocommit = True
        connection.execute("DROP SCHEMA IF EXISTS trail CASCADE")


def on_record(forensics: ForensicsSettings) -> int:
    """Decisions that are stored."""
    with opened(forensics.reader_url.get_secret_value()) as reader:
        return sum(reader.counts("decisions").values())


def from_a_filled_topic(settings: StackSettings, forensics: ForensicsSettings, count: int) -> None:
    """The process itself, from its first record on."""
    say("from a filled topic, gateway stopped:")
    wiped(settings)
    migrate_trail(settings.postgres_url("ultrathink"))
    with running_forensics(settings):
        while not (begun := on_record(forensics)):
            time.sleep(0.01)
        began = time.monotonic()
        while (stored := on_record(forensics)) < count:
            time.sleep(0.05)
        seconds = time.monotonic() - began
    tell("stored from Kafka", (stored - begun) / seconds, "decisions/s", at_least=8000)


def lag(settings: StackSettings, forensics: ForensicsSettings, records: list[Record]) -> None:
    """How old the newest stored record is, while so many come a second."""
    say(f"lag at {LAG_RATE:,}/s for {LAG_S} s:")
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap, "linger.ms": 5, "log_level": 0})
    seen = []
    with running_forensics(settings):
        base = on_record(forensics)
        began, sent, payloads = time.monotonic(), 0, cycle(records)
        while (now := time.monotonic() - began) < LAG_S:
            while sent < now * LAG_RATE:
                one = next(payloads)
                producer.produce(TOPICS.decisions, one.value, one.key, partition=sent % settings.partitions)
                sent += 1
            producer.poll(0)
            if len(seen) < int(now * 4):
                # So many are not stored yet: they were sent within so many seconds.
                seen.append((sent - (on_record(forensics) - base)) / LAG_RATE)
            time.sleep(0.002)
        producer.flush(10)
    tell("lag, worst of four looks a second", max(seen), "s", at_most=5.0)
    tell("lag, median", statistics.median(seen), "s")


def proofs(settings: StackSettings, forensics: ForensicsSettings, keys: Keys) -> None:
    """What looking at it all costs."""
    say("proofs, verification, replay:")
    with opened(forensics.reader_url.get_secret_value()) as reader:
        began = time.perf_counter()
        verified = verify(reader, CheckpointFiles(forensics.checkpoints).lines(), keys)
        seconds = time.perf_counter() - began
        tell("verification", reader.count() / seconds, "records/s", beside=f"{len(verified.findings)} findings")
        log = next(row for row in reader.logs() if row.kind == "decisions")
        row = next(iter(reader.rows("decisions", log.id, 1000)))
        (found, *_) = reader.find("decisions", "decision_id", row[11])
        began = time.perf_counter()
        proof = to_file(prove_record(reader, found, keys))
        tell("a proof is made in", 1e3 * (time.perf_counter() - began), "ms")
        taken = []
        for _ in range(200):
            began = time.perf_counter()
            check(proof, keys)
            taken.append(1e3 * (time.perf_counter() - began))
        tell("a proof is checked in, median", statistics.median(taken), "ms", at_most=5.0)
        ticks = KafkaTicks(forensics.kafka_bootstrap, forensics.ticks_topic)
        began, count, different = time.perf_counter(), 0, 0
        for partition in range(settings.partitions):
            done = replay_span(reader, ticks, forensics, Span(partition))
            count, different = count + done.decisions, different + len(done.different)
        tell("replay", count / (time.perf_counter() - began), "decisions/s", beside=f"{different} differ")


def main() -> None:
    """All of it, on one stack."""
    with tempfile.TemporaryDirectory(prefix="ultrathink-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        with sandbox(home, show=lambda text: say(f"  {text}")) as settings:
            forensics = settings_with_key()
            keys = public_keys([public_path(forensics.signing_key)])
            records = decided(settings)
            against_copy(settings, records)
            from_a_filled_topic(settings, forensics, len(records))
            proofs(settings, forensics, keys)
            lag(settings, forensics, records)
    figures.save()


if __name__ == "__main__":
    main()

"""Record what Kafka's Java needs at its start, once: `python -m stack.servers.record_kafka`.

Java 25 keeps classes that are loaded and linked, and which methods were hot, in an ahead-of-time cache (JEP 483,
514 and 515). Without one a broker interprets and compiles for its first half minute, and every decision of that
time is late. A broker of its own is started here, does for some seconds what a desk asks of one, and is stopped.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from connectors.kafka.client import Consumer, KafkaException, Producer, TopicPartition
from connectors.kafka.topics import TOPICS
from stack.servers import kafka
from stack.servers.log_files import tail
from stack.servers.server import NotReady, Service
from stack.servers.settings import ServerPorts, StackSettings
from trading.errors import UltraThinkError

#: The first Java that keeps methods' profiles too.
LEAST_JAVA = 25
EXERCISE_S = 8.0
START_S, STEP_S, WRITE_S = 60.0, 10.0, 120.0
#: What the folder of a recording begins with, and how old one is that was killed.
UNFINISHED, OLD_S = ".recording-", 3600.0
#: A broker that has just started refuses its first clients for a moment, and one that is ended its last.
QUIET = {"log_level": 0}
BATCH, VALUE, DECISION = 16, b"t" * 180, b"d" * 2600


def main(target: Path) -> None:
    """Record what is not yet recorded; where that cannot be done say why, and that brokers start without."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # So that the broker is ended too. A hang-up that nohup ignores stays ignored.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda *_: sys.exit(1))
    began = time.monotonic()
    if target.is_file():
        return
    try:
        kept = record(target)
    except (RecordingFailed, UltraThinkError, KafkaException, OSError, subprocess.SubprocessError) as failure:
        sys.stdout.write(
            "Kafka's ahead-of-time cache is left out, brokers warm up slower; "
            f"`python -m stack.servers.record_kafka` tries again: {failure}\n"
        )
    else:
        for old in target.parent.glob("kafka*.aot"):
            if old != kept:
                old.unlink(missing_ok=True)
        size = f"{kept.stat().st_size / 2**20:.0f} MB"
        sys.stdout.write(f"recorded Kafka's ahead-of-time cache in {time.monotonic() - began:.0f} s ({size})\n")


class RecordingFailed(Exception):
    """There is no cache, for this reason."""


def record(target: Path) -> Path:
    """Make the cache, whole or not at all, whatever the environment says of other stacks.

    Raises:
        RecordingFailed: Java has none, or wrote none; with the end of the broker's log.
        UltraThinkError, KafkaException, OSError: the broker could not be used.
    """
    if (found := java_version()) < LEAST_JAVA:
        raise RecordingFailed(f"Java {found} has none, {LEAST_JAVA} has")
    target.parent.mkdir(parents=True, exist_ok=True)
    forget_killed(target.parent)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=target.parent) as name:
        folder = Path(name)
        settings = StackSettings(
            profile="servers",
            home=folder,
            ports=ServerPorts.automatic(),
            brokers=1,
            partitions=4,
            kafka_security="none",
        )
        # Given as the others it would be merged with the environment's lines, which are of another broker.
        settings = settings.model_copy(update={"kafka_extra": {}})
        settings.tell_clients(alone=True)
        made, log = folder / target.name, folder / "broker.log"
        run(kafka.broker(settings, 0, f"-XX:AOTCacheOutput={made}"), settings, log)
        if not made.is_file():
            raise RecordingFailed(f"Java wrote none; {end_of(log)}")
        made.replace(target)
    return target


def forget_killed(parent: Path) -> None:
    """Delete what recordings that were killed have left, once it is too old for one that runs."""
    for folder in parent.glob(f"{UNFINISHED}*"):
        if time.time() - folder.stat().st_mtime > OLD_S:
            shutil.rmtree(folder, ignore_errors=True)


def java_version() -> int:
    """The major version of the wheel's Java."""
    done = subprocess.run(
        [kafka.java(), "-XshowSettings:properties", "-version"], capture_output=True, text=True, check=False
    )
    for line in done.stderr.splitlines():
        name, _, value = line.strip().partition(" = ")
        if name == "java.specification.version":
            return int(value.partition(".")[0])
    return 0


def run(service: Service, settings: StackSettings, log: Path) -> None:
    """Start, exercise, stop."""
    service.prepare()
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(service.command()), stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            cwd=service.folder, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until_ready(service, process, log)
        kafka.create_topics(settings)
        exercise(settings.kafka_bootstrap)
        process.send_signal(signal.SIGTERM)
        process.wait(WRITE_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_ready(service: Service, process: subprocess.Popen[bytes], log: Path) -> None:
    """Raises RecordingFailed where it ends or takes too long."""
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            service.probe()
        except NotReady:
            time.sleep(0.1)
        else:
            return
    raise RecordingFailed(f"the broker does not start; {end_of(log)}")


def end_of(log: Path) -> str:
    """The last line of a log."""
    lines = tail(log, 1)
    return f"it said: {lines[-1][:300]}" if lines else "it said nothing"


def exercise(bootstrap: str) -> None:
    """What a desk asks of a broker, as fast as it goes.

    Raises what one of the clients died of, and RecordingFailed where one does not end.
    """
    stop, failures = threading.Event(), list[BaseException]()

    def guarded(work: Callable[[str, threading.Event], None]) -> None:
        try:
            work(bootstrap, stop)
        except BaseException as error:  # noqa: BLE001 - raised below: a cache of half the work is none
            failures.append(error)

    # Whatever ends us must not wait for them.
    threads = [
        threading.Thread(target=guarded, args=(work,), daemon=True) for work in (send, follow, transact, watch)
    ]
    for thread in threads:
        thread.start()
    try:
        stop.wait(EXERCISE_S)
    finally:
        stop.set()
    for thread in threads:
        thread.join(STEP_S)
    if failures:
        raise failures[0]
    if any(thread.is_alive() for thread in threads):
        raise RecordingFailed(f"a client of the broker does not end within {STEP_S:.0f} s")


def send(bootstrap: str, stop: threading.Event) -> None:
    """Ticks."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 0.5,
            "compression.type": "lz4",
            **QUIET,
        }
    )
    number = 0
    while not stop.is_set():
        producer.produce(TOPICS.ticks, VALUE, b"%d" % (number % 20), headers=[("sent-ns", b"1")])
        number += 1
        producer.poll(0)
        if number % BATCH == 0:
            time.sleep(0.004)
    producer.flush(10.0)


def follow(bootstrap: str, stop: threading.Event) -> None:
    """A member of a group."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap, "group.id": "record", "group.instance.id": "record",
            "enable.auto.commit": False, "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky", "auto.offset.reset": "earliest", **QUIET,
        }
    )  # fmt: skip
    consumer.subscribe([TOPICS.ticks])
    while not stop.is_set():
        if consumer.poll(0.05) is not None:
            consumer.consume(1000, 0)
    consumer.close()


def transact(bootstrap: str, stop: threading.Event) -> None:
    """Decisions, orders and offsets in transactions."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap, "transactional.id": "record", "linger.ms": 0, "compression.type": "lz4",
            "retry.backoff.ms": 2, **QUIET,
        }
    )  # fmt: skip
    producer.init_transactions(START_S)
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "record-offsets", **QUIET})
    metadata, turn = reader.consumer_group_metadata(), 0
    partitions = list(producer.list_topics(TOPICS.decisions, 10.0).topics[TOPICS.decisions].partitions)
    while not stop.is_set():
        producer.begin_transaction()
        for partition in partitions:
            producer.produce_batch(TOPICS.decisions, [{"value": DECISION, "key": b"k"}] * 4, partition=partition)
            producer.produce(TOPICS.orders, VALUE, b"k", partition)
        turn += 1
        producer.send_offsets_to_transaction(
            [TopicPartition(TOPICS.ticks, p, turn) for p in partitions], metadata, STEP_S
        )
        producer.commit_transaction(STEP_S)
    reader.close()


def watch(bootstrap: str, stop: threading.Event) -> None:
    """Decisions, as everybody reads them."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "record-watch", "isolation.level": "read_committed", **QUIET}
    )
    found = consumer.list_topics(TOPICS.decisions, 10.0).topics[TOPICS.decisions].partitions
    consumer.assign([TopicPartition(TOPICS.decisions, p) for p in found])
    while not stop.is_set():
        if consumer.poll(0.05) is not None:
            consumer.consume(1000, 0)
    consumer.close()


if __name__ == "__main__":
    main(kafka.aot_cache())

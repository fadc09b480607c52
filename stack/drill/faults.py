"""What is done to the desk: each fault with the alerts that must tell of it; the end of its `with` mends it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

import msgspec
from msgspec import Struct

from connectors.kafka.client import Producer
from connectors.kafka.topics import TOPICS
from connectors.redis import open_client
from exporters.repository.repository import LINEAGE
from stack.chaos.feed import rubbish, spoil_control
from stack.drill.bad_model import bad_model
from stack.drill.desk import Desk, repeatedly
from stack.servers.postgres import connect
from trading.errors import ServiceUnavailable

MB = 1 << 20
DAY_S = 86_400.0
CONNECTIONS = """SELECT current_setting('max_connections')::int,
(SELECT count(*) FROM pg_stat_activity WHERE datname <> '')"""
REASON = ("--reason", "a drill")
Make = Callable[[Desk], AbstractContextManager[None]]


class Fault(Struct, frozen=True):
    """Something that goes wrong.

    Attributes:
        name: for people.
        alerts: that must tell of it.
        make: breaks it, and mends it at its end.
        lasting_min: for so many minutes after the mending the alert looks back, and fires.
    """

    name: str
    alerts: tuple[str, ...]
    make: Make
    lasting_min: float = 0.0


def hang(name: str) -> Make:
    """A process that neither ends nor answers."""
    return lambda desk: desk.suspended(name)


def command(begin: tuple[str, ...], end: tuple[str, ...]) -> Make:
    """What a person does, and takes back."""

    @contextmanager
    def make(desk: Desk) -> Iterator[None]:
        try:
            desk.ran(*begin, *REASON)
            yield
        finally:
            desk.ran(*end, *REASON)

    return make


@contextmanager
def stutter(desk: Desk) -> Iterator[None]:
    """The gateway gets no processor for a quarter of a second, twice a second."""

    def pause() -> None:
        gateway = desk.process("gateway")
        gateway.send_signal(signal.SIGSTOP)
        time.sleep(0.25)
        gateway.send_signal(signal.SIGCONT)

    with repeatedly(pause, 0.25):
        yield


@contextmanager
def tight_limits(desk: Desk) -> Iterator[None]:
    """A limit of drawdown that is used up at once: it latches, and only a person ends that."""
    path = desk.home / "drill-limits.yaml"

    def apply(**limits: float) -> None:
        path.write_bytes(msgspec.yaml.encode({"version": 1, "defaults": limits}))
        desk.ran("risk", "limits", "apply", os.fspath(path), *REASON)

    try:
        apply(max_drawdown=0.0001)
        yield
    finally:
        apply()
        desk.ran("risk", "reset", "drawdown", *REASON)
        path.unlink()


@contextmanager
def no_ticks(desk: Desk) -> Iterator[None]:
    """Messages among the ticks that are none."""
    producer = Producer({"bootstrap.servers": desk.settings.kafka_bootstrap, "log_level": 0})
    numbers = iter(range(1_000_000))

    def send() -> None:
        # Where a symbol's ticks are: a partition of rubbish alone is decided by no model.
        producer.produce(TOPICS.ticks, rubbish(next(numbers)), key=b"SIM0")
        producer.flush(10.0)

    with repeatedly(send, 2.0):
        yield


@contextmanager
def no_commands(desk: Desk) -> Iterator[None]:
    """Records among the commands that are none."""
    with repeatedly(partial(spoil_control, desk.settings.kafka_bootstrap, TOPICS.control), 4.0):
        yield


@contextmanager
def failing_model(desk: Desk) -> Iterator[None]:
    """A model that refuses what it is asked."""
    with bad_model(desk.settings.triton_grpc) as model, repeatedly(model.fail, 0.5):
        yield


@contextmanager
def hungry_model(desk: Desk) -> Iterator[None]:
    """A model that takes nearly all that the model server may have."""
    row = desk.row("triton")
    with bad_model(desk.settings.triton_grpc) as model:
        model.take(0.94 * row.memory_limit_mb - row.memory_mb)
        yield


@contextmanager
def greedy_model(desk: Desk) -> Iterator[None]:
    """A model that takes more than the model server may have."""
    with bad_model(desk.settings.triton_grpc) as model:
        model.take(1.5 * desk.row("triton").memory_limit_mb)
        yield


def has_ended(desk: Desk, name: str, before: int) -> bool:
    """Whether a process was started again since it had been so often."""
    return desk.row(name).restarts > before


@contextmanager
def again_and_again(desk: Desk) -> Iterator[None]:
    """A process that ends as soon as it answers."""
    for _ in range(5):
        desk.wait_until_ready("paper-broker")
        before = desk.row("paper-broker").restarts
        desk.kill("paper-broker")
        desk.wait(partial(has_ended, desk, "paper-broker", before), "its end to be seen")
    yield


@contextmanager
def unsupervised(desk: Desk) -> Iterator[None]:
    """The supervisor is killed; the next `stack up` takes over."""
    os.kill(desk.status().supervisor.pid, signal.SIGKILL)
    try:
        yield
    finally:
        desk.ran("stack", "up")


@contextmanager
def full_redis(desk: Desk) -> Iterator[None]:
    """Somebody else's keys take its memory."""
    client = open_client(desk.settings.redis_url, 5.0)
    most = int(client.info("memory")["maxmemory"])
    names: list[str] = []
    try:
        while client.info("memory")["used_memory"] < 0.93 * most:
            names.append(f"drill:{len(names)}")
            client.set(names[-1], bytes(MB))
        yield
    finally:
        if names:
            client.delete(*names)
        client.close()


@contextmanager
def many_connections(desk: Desk) -> Iterator[None]:
    """Somebody else's connections to PostgreSQL; a few are left for whoever looks."""
    with ExitStack() as held:
        first = held.enter_context(connect(desk.settings))
        row = first.execute(CONNECTIONS).fetchone()
        if row is None:
            raise ServiceUnavailable("PostgreSQL does not say how many connections it has")
        for _ in range(int(0.94 * row[0]) - row[1]):
            held.enter_context(connect(desk.settings))
        yield


@contextmanager
def old_secret(desk: Desk) -> Iterator[None]:
    """A token that nobody has changed for more than a year."""
    path = desk.home / "secrets" / "data-token"
    made = path.stat()
    long_ago = made.st_mtime - 400 * DAY_S
    os.utime(path, (long_ago, long_ago))
    try:
        yield
    finally:
        os.utime(path, ns=(made.st_atime_ns, made.st_mtime_ns))


@contextmanager
def unknown_model(desk: Desk) -> Iterator[None]:
    """The released version no longer says where it comes from."""
    found = max(desk.settings.model_repository.glob(f"trading_decision/*/{LINEAGE}"))
    aside = found.with_name(f".{LINEAGE}.drill")
    found.rename(aside)
    try:
        yield
    finally:
        aside.rename(found)


@contextmanager
def full_disk(desk: Desk) -> Iterator[None]:
    """So little is left that the desk is reduced."""
    if desk.disk is None:
        raise ServiceUnavailable("the desk's disk is everybody's, and is not filled")
    filler = desk.disk / "filler"
    try:
        left = os.statvfs(desk.disk)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, left.f_bavail * left.f_frsize - 600 * MB)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            filler.unlink()
        # What was reduced stays so until a person says that it may trade.
        time.sleep(3.0)
        desk.ran("gateway", "resume", *REASON)


RESUME = ("gateway", "resume")
#: Those whose alerts look back come first: while others are made their minutes pass.
FAULTS: tuple[Fault, ...] = (
    Fault("paper broker killed 5 times", ("RestartLoop",), again_and_again, lasting_min=10),
    Fault("a model takes more memory than there is", ("OutOfMemory",), greedy_model, lasting_min=10),
    Fault("messages that are no ticks", ("DeadLetters",), no_ticks, lasting_min=5),
    Fault("records that are no commands", ("BadRecords",), no_commands, lasting_min=5),
    Fault("gateway without a processor twice a second", ("DecisionLatencyHigh",), stutter),
    Fault("gateway hangs", ("NoDecisions", "GatewayLag", "GatewayNotReady", "ProcessDown"), hang("gateway")),
    Fault("Triton hangs", ("BreakerOpen", "TargetDown", "ProcessDegraded"), hang("triton")),
    Fault("Redis hangs", ("SourceUnseen",), hang("redis")),
    Fault("PostgreSQL hangs", ("TrailBehind",), hang("postgres")),
    Fault("supervisor killed", ("SupervisorDown",), unsupervised),
    Fault("a model refuses what it is asked", ("TritonFailures",), failing_model),
    Fault("a model takes nearly all memory", ("MemoryNearCeiling",), hungry_model),
    Fault("Redis filled", ("RedisMemory",), full_redis),
    Fault("PostgreSQL's connections taken", ("PostgresConnections",), many_connections),
    Fault("a token of more than a year", ("SecretOld",), old_secret),
    Fault("lineage of a released model gone", ("ModelUnknown",), unknown_model),
    Fault("limit of drawdown used up", ("LossLimitNear", "RuleLatched"), tight_limits),
    Fault("halted by a person", ("DeskHalted",), command(("gateway", "halt"), RESUME)),
    Fault("kill switch", ("KillSwitch",), command(("gateway", "kill"), RESUME)),
    Fault("disk nearly full", ("DiskNearlyFull", "DeskHalted"), full_disk),
)

"""The main job, end to end, on the real servers: train, export, publish, decide, report."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec import Struct

from connectors.kafka.reading import bounds
from connectors.kafka.topics import TOPICS
from gateway.adapters.kafka_fills import reports_between
from loadtest.open_loop.publisher import Published, TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from loadtest.open_loop.watcher import Completeness, DecisionWatcher, Latency, completeness, latency
from stack.processes.broker import running_broker
from stack.processes.gateway import running_gateway
from stack.servers.catalogue import services
from stack.servers.lifecycle import down
from stack.servers.ports import is_free
from stack.servers.settings import ServerPorts, StackSettings, from_environment
from trading.decision.schema import Decision
from trading.errors import ConfigurationError
from trading.events import ExecutionReport
from trading.history import Source, open_source

SLOW_SOURCE_SPEED = "2000/s"
FAST_SOURCE_SPEED = "4x"
QUIET_S = 15.0
MIN_TICKS = 8_000
#: Tells a demo's folder from any other.
MARKER = ".demo"
#: What the demo's desk may do.
LIMITS = Path(__file__).with_name("limits.yaml")


def choose_settings(home: Path) -> tuple[StackSettings, bool]:
    """Default ports where all are free, else free ones; a model repository of its own."""
    settings = from_environment(home=home, model_repository=home.resolve() / "model_repository")
    wanted = [port for service in services(settings) for port in service.ports]
    wanted.append(settings.ports.gateway_metrics)
    if all(is_free(port) for port in wanted):
        return settings, False
    return settings.model_copy(update={"ports": ServerPorts.automatic()}), True


def choose_speed(source: Source) -> str:
    """Recorded gaps where the source is a live feed, a steady rate where its ticks are days apart."""
    arrivals = [r.arrival_ns for r in islice(source.records(), 2000)]
    seconds = (arrivals[-1] - arrivals[0]) / 1e9
    return FAST_SOURCE_SPEED if 0 < seconds < 3600 else SLOW_SOURCE_SPEED


class Run(Struct, frozen=True):
    """What was published and what came back."""

    published: Published
    decisions: list[Decision]
    counts: Completeness
    latency: Latency
    histogram: Any
    fills: dict[int, list[tuple[int, ExecutionReport]]]


def decide_all(
    settings: StackSettings, source: Source, speed: str, limit: int | None, show: Callable[[int, int, float], None]
) -> Run:
    """The source through a gateway and the paper broker; `show` as `publish_and_watch` has it."""
    limits_file = os.fspath(LIMITS)
    with running_broker(settings), running_gateway(settings, execution="broker", limits_file=limits_file):
        return publish_and_watch(settings, source, speed, limit, show)


def publish_and_watch(
    settings: StackSettings,
    source: Source,
    speed: str,
    limit: int | None,
    show: Callable[[int, int, float], None],
) -> Run:
    """Send the source and read every decision. `show` gets ticks sent, decisions seen, ticks a second."""
    watcher = DecisionWatcher(settings.kafka_bootstrap, TOPICS.decisions)
    try:
        publisher = TickPublisher(settings.kafka_bootstrap, TOPICS.ticks)
        planned = plan(islice(source.records(), limit), Speed.parse(speed))
        published = publisher.publish(
            planned, progress=lambda p: show(p.sent, len(watcher.payloads), p.sent / max(p.seconds, 1e-9))
        )
        rate = published.sent / published.seconds
        watcher.wait_for(published.intended_ns, QUIET_S, lambda seen: show(published.sent, seen, rate))
    finally:
        watcher.close()
    measured, histogram = latency(published.intended_ns, watcher.payloads, watcher.visible_ns)
    return Run(
        published=published,
        decisions=watcher.decisions(),
        counts=completeness(published.intended_ns, watcher.payloads),
        latency=measured,
        histogram=histogram,
        fills=fills_of(settings),
    )


def fills_of(settings: StackSettings) -> dict[int, list[tuple[int, ExecutionReport]]]:
    """The broker's reports by partition, each with its offset."""
    return {
        partition: reports_between(
            settings.kafka_bootstrap,
            TOPICS,
            partition,
            0,
            bounds(settings.kafka_bootstrap, TOPICS.fills, partition)[1],
        )
        for partition in range(settings.partitions)
    }


def open_demo_source(data: str, limit: int | None) -> Source:
    """The SOURCE, checked before anything is started."""
    if limit is not None and limit < MIN_TICKS:
        raise ConfigurationError(f"--limit {limit}: at least {MIN_TICKS:,} ticks are needed to train")
    source = open_source(data)
    for _ in islice(source.records(), 1):
        pass
    return source


def begin_anew(home: Path) -> None:
    """End and delete an earlier demo. Raises ConfigurationError for a folder that holds another stack."""
    marker = home / MARKER
    if (home / "stack.json").exists() and not marker.exists():
        raise ConfigurationError(f"{home} holds a stack that is no demo: give the demo another --home")
    down(home, purge=True)
    home.mkdir(parents=True, exist_ok=True)
    marker.touch()

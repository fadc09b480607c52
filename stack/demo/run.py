"""The main job, end to end, on the real servers: train, export, publish, decide, report."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct, structs

from connectors.kafka.client import KafkaException
from connectors.kafka.topics import TOPICS, Topics
from connectors.kafka.watermarks import bounds
from gateway.adapters.kafka_fills import reports_between
from loadtest.open_loop.drive import Load, Progress
from loadtest.open_loop.replay import Replayed, replay
from loadtest.open_loop.schedule import Speed
from loadtest.open_loop.watcher import Completeness, Latency, completeness, latency
from stack.processes import desk
from stack.processes.broker import running_broker
from stack.processes.gateway import SeriesTopics, running_gateway
from stack.servers.kafka import create_topics
from stack.servers.ports import is_free
from stack.servers.settings import ServerPorts, StackSettings, from_environment
from stack.supervision.catalogue import services
from stack.supervision.lifecycle import down
from stack.workflows.sandbox import MODELS
from trading.arrays import FloatArray
from trading.decision.schema import Decision, Reason
from trading.decision.wire import decode_decision, place
from trading.errors import ConfigurationError, UltraThinkError
from trading.events import ExecutionReport
from trading.files import write_atomically
from trading.history import Source, open_source
from trading.risk import limits_file

SLOW_SOURCE_SPEED = "2000/s"
FAST_SOURCE_SPEED = "4x"
#: Nothing has come for so long after the last tick: what is missing is missing.
QUIET_S = 15.0
#: As Kafka's clients do where nobody says otherwise: on a machine that does all the rest too, a request for each
#: tick would cost more than the tick.
LINGER_MS = 5.0
#: The servers of the demo have just started: what they do in this time is shown, and not counted.
WARM_UP_S = 10.0
#: Share of late ticks up to which a rate is kept, and for how long another is tried otherwise.
MOST_LATE, TRY_S, TRY_WARM_UP_S = 0.01, 10.0, 3.0
LATE = frozenset({Reason.DEADLINE, Reason.SUPERSEDED})
#: The three models as one graph: on few cores a call of the ensemble costs three.
FUSED = MODELS[1]
#: Ticks whose prices say what they are multiples of.
LOOKED_AT = 2000
MIN_TICKS = 8_000
#: Tells a demo's folder from any other.
MARKER = ".demo"
#: What the demo's desk may do.
LIMITS = Path(__file__).with_name("limits.yaml")


def choose_settings(home: Path) -> tuple[StackSettings, bool]:
    """Default ports where all are free, else free ones; a model repository of its own."""
    # One gateway decides all: more partitions would only make each of its transactions dearer.
    settings = from_environment(
        home=home, profile="servers", model_repository=home.resolve() / "model_repository", partitions=1
    )
    wanted = [port for service in services(settings) for port in service.ports]
    wanted += [port for service in desk.services(settings) for port in service.ports]
    if all(is_free(port) for port in wanted):
        return settings, False
    return settings.model_copy(update={"ports": ServerPorts.automatic()}), True


def choose_speed(source: Source) -> str:
    """Recorded gaps where the source is a live feed, a steady rate where its ticks are days apart."""
    arrivals = [r.arrival_ns for r in islice(source.records(), 2000)]
    seconds = (arrivals[-1] - arrivals[0]) / 1e9
    return FAST_SOURCE_SPEED if 0 < seconds < 3600 else SLOW_SOURCE_SPEED


class Run(Struct, frozen=True):
    """What was published and what came back.

    Attributes:
        per_s: ticks a second, as they were sent.
        counts: of all ticks.
        decisions: of all, in the order in which they were read.
        warm_up_s: from the first tick; what was meant to be sent in that time is not in the figures below.
        latency, histogram: from intended send to visible, of the others.
        late: share of them that was held because its budget was spent, or a newer tick had come.
        seconds, latencies_ms: float64 [ticks], of all: when each was meant to be sent, and how long it took.
        fills: of the broker, by partition, each with its offset.
        is_kept: whether this machine keeps the rate; true where none was asked for.
        kept_per_s: where not, the rate that it keeps; 0 where it keeps none that was tried, None where that could
            not be measured.
    """

    per_s: float
    decisions: list[Decision]
    counts: Completeness
    warm_up_s: float
    latency: Latency
    histogram: Any
    late: float
    seconds: FloatArray
    latencies_ms: FloatArray
    fills: dict[int, list[tuple[int, ExecutionReport]]] = {}
    is_kept: bool = True
    kept_per_s: float | None = None


Show = Callable[[Progress], None]


def decide_all(settings: StackSettings, source: Source, speed: str, limit: int | None, show: Show) -> Run:
    """The source through a gateway and the paper broker; `show` hears how far that is a few times a second.

    Where this machine does not keep the rate, it is tried which one it does.
    """
    limits = os.fspath(fitted_limits(source, settings.absolute_home))
    gateway = running_gateway(settings, execution="broker", limits_file=limits, model_name=FUSED)
    with running_broker(settings), gateway:
        run = measured(settings.kafka_bootstrap, TOPICS, source, speed, limit, WARM_UP_S, show)
        run = structs.replace(run, fills=fills_of(settings))
    asked = Speed.parse(speed)
    if asked.kind != "constant" or run.late <= MOST_LATE:
        return run
    kept = find_rate(asked.rate_hz, lambda rate: try_rate(settings, source, limits, rate, show))
    return structs.replace(run, is_kept=False, kept_per_s=kept)


def find_rate(failed_per_s: float, attempt: Callable[[float], Run]) -> float | None:
    """A half of the rate, a quarter or an eighth, the highest that is kept; 0 where none is.

    A try costs half a minute: first the quarter, then the half or the eighth. None where that cannot be measured:
    the run that is shown is whole all the same.
    """

    def keeps(rate: float) -> bool | None:
        try:
            tried = attempt(rate)
        except (UltraThinkError, KafkaException):
            return None
        return tried.late <= MOST_LATE and not tried.counts.missing

    half, quarter, eighth = (failed_per_s / part for part in (2, 4, 8))
    if first := keeps(quarter):
        return half if keeps(half) else quarter
    if first is None or (second := keeps(eighth)) is None:
        return None
    return eighth if second else 0.0


def try_rate(settings: StackSettings, source: Source, limits: str, rate: float, show: Show) -> Run:
    """Some seconds of the source at a rate, from its beginning, through a gateway whose books are new.

    The first run's books are where the source ends: they would deny what comes from its beginning again.
    """
    series = SeriesTopics(f"try-{rate:g}", f"try-{rate:g}.ticks")
    create_topics(settings, series.names)
    topics = series.topics
    broker = running_broker(
        settings, group=f"{series.series}-broker", orders_topic=topics.orders, fills_topic=topics.fills,
        control_topic=topics.control,
    )  # fmt: skip
    given: dict[str, Any] = {"execution": "broker", "limits_file": limits, "model_name": FUSED, **series.settings()}
    with broker, running_gateway(settings, **given):
        count = max(1, int(rate * TRY_S))
        return measured(settings.kafka_bootstrap, topics, source, f"{rate:.3f}/s", count, TRY_WARM_UP_S, show)


def measured(
    bootstrap: str, topics: Topics, source: Source, speed: str, limit: int | None, warm_up_s: float, show: Show
) -> Run:
    """Send the source and read every decision; a source that is over soon warms up for a third of its time."""
    load = Load(
        bootstrap, source.spec, speed, limit, ticks_topic=topics.ticks, decisions_topic=topics.decisions,
        quiet_s=QUIET_S, linger_ms=LINGER_MS,
    )  # fmt: skip
    return run_of(replay(load, show), warm_up_s)


def run_of(replayed: Replayed, warm_up_s: float) -> Run:
    """The figures of what was sent and seen. Raises BadRecord for what is no decision."""
    intended, payloads, visible_ns = replayed.intended_ns, replayed.payloads, replayed.visible_ns
    decisions = [decode_decision(payload) for payload in payloads]
    first_ns = min(intended.values())
    # Of the time in which ticks were meant, so that the last of them always counts.
    warm_up_s = min(warm_up_s, (max(intended.values()) - first_ns) / 3e9)
    measured_ns = {at: ns for at, ns in intended.items() if ns >= first_ns + int(warm_up_s * 1e9)}
    found, histogram = latency(measured_ns, payloads, visible_ns)
    taken = {place(d.decision_id): ns for d, ns in zip(decisions, visible_ns, strict=True)}
    seen = [(ns, taken[at]) for at, ns in sorted(intended.items(), key=lambda one: one[1]) if at in taken]
    meant, visible = np.array(seen, np.float64).reshape(-1, 2).T
    return Run(
        per_s=replayed.per_s,
        decisions=decisions,
        counts=completeness(intended, payloads),
        warm_up_s=warm_up_s,
        latency=found,
        histogram=histogram,
        late=sum(d.reason in LATE for d in decisions if place(d.decision_id) in measured_ns) / len(measured_ns),
        seconds=(meant - first_ns) / 1e9,
        latencies_ms=(visible - meant) / 1e6,
    )


def fitted_limits(source: Source, home: Path) -> Path:
    """The demo's limits, with increments that the source's own prices keep: a spot market's are finer."""
    limits = limits_file.read(LIMITS)
    prices: dict[str, set[float]] = {}
    for record in islice(source.records(), LOOKED_AT):
        tick = record.tick
        prices.setdefault(tick.symbol, set()).update(p for p in (tick.bid, tick.ask, tick.last) if p)
    symbols = {
        symbol: {**own, "price_increment": increment(prices.get(symbol, set()), own.get("price_increment", 0.0))}
        for symbol, own in limits.symbols.items()
    }
    written = home / "limits.yaml"
    write_atomically(written, msgspec.yaml.encode(structs.replace(limits, symbols=symbols)).decode())
    return written


def increment(prices: Collection[float], usual: Any) -> float:
    """The usual increment where all prices are multiples of it, else the decimal unit that they are written in."""
    # Of a double the last digits are noise.
    exact = [Decimal(f"{price:.12g}") for price in prices]
    if not usual or all(price % Decimal(repr(usual)) == 0 for price in exact):
        return float(usual)
    return float(min(Decimal(1).scaleb(int(price.normalize().as_tuple().exponent)) for price in exact))


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


def year_at(time_ns: int) -> int:
    """UTC."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).year


def open_demo_source(data: str, limit: int | None, year: int | None) -> Source:
    """The SOURCE, checked before anything is started."""
    if limit is not None and limit < MIN_TICKS:
        raise ConfigurationError(f"--limit {limit}: at least {MIN_TICKS:,} ticks are needed to train")
    source = open_source(data)
    for _ in islice(source.records(), 1):
        pass
    if year is not None:
        years = {year_at(record.tick.event_time_ns) for record in islice(source.records(), limit)}
        if year not in years:
            raise ConfigurationError(f"--year {year}: {data} has ticks of {min(years)} to {max(years)}")
    return source


def begin_anew(home: Path) -> None:
    """End and delete an earlier demo. Raises ConfigurationError for a folder that holds another stack."""
    marker = home / MARKER
    if (home / "stack.json").exists() and not marker.exists():
        raise ConfigurationError(f"{home} holds a stack that is no demo: give the demo another --home")
    down(home, purge=True)
    home.mkdir(parents=True, exist_ok=True)
    marker.touch()


@contextmanager
def demo_stack(home: Path, *, keep: bool) -> Iterator[tuple[StackSettings, bool]]:
    """A demo's folder, begun anew, whose stack is taken down at the end, unless it is to be kept and all went well.

    Yields its settings, and whether it uses free ports instead of the usual ones. Raises ConfigurationError for a
    folder that holds another stack.
    """
    begin_anew(home.resolve())
    settings, moved = choose_settings(home)
    os.environ["ULTRATHINK_HOME"] = os.fspath(settings.absolute_home)
    went_well = False
    try:
        yield settings, moved
        went_well = True
    finally:
        if not (keep and went_well):
            down(settings.absolute_home)

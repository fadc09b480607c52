"""Builds the adapters and returns the gateway: the only place that chooses implementations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import structlog
from msgspec import Struct

from connectors.kafka.cluster import Cluster, check_cluster
from connectors.kafka.watermarks import Watermarks
from connectors.logs import LogLevel
from connectors.spans import tracer_if_asked
from gateway.adapters.admin import AdminPort, AdminServer
from gateway.adapters.challengers import Challengers
from gateway.adapters.clock import SystemClock
from gateway.adapters.kafka_cancels import KafkaCancels
from gateway.adapters.kafka_fills import FillsFeed, KafkaEvents
from gateway.adapters.kafka_recovery import KafkaPartitionLog, LogPlace, open_logs
from gateway.adapters.kafka_sink import KafkaDecisionSink
from gateway.adapters.kafka_source import KafkaTickSource
from gateway.adapters.kafka_transactions import TransactionalSink
from gateway.adapters.metrics import PrometheusMetrics, StateCollector
from gateway.adapters.redis_reservations import RedisReservations
from gateway.adapters.redis_snapshots import RedisSnapshots, SnapshotKeeper
from gateway.adapters.triton_lineup import Server
from gateway.assignment import PartitionAssignment
from gateway.before_joining import first_word, rehearse_start, self_test, wait_for_server
from gateway.breaker import BreakerState, CircuitBreaker, GuardedPredictor
from gateway.control.control import Control, DualLatch
from gateway.control.earlier_logs import earlier_names
from gateway.control.kill_file import KillFile
from gateway.control.redis_latch import RedisStateStore
from gateway.control.topic import ControlListener
from gateway.instance import Instance
from gateway.operations import Operations, Running
from gateway.pipeline import Pipeline
from gateway.ports import DecisionSink, Ports, StateStore
from gateway.recovery import PartitionRecovery, known_alone
from gateway.settings import GatewaySettings
from gateway.warm_up import probe_rows, probe_ticks, warm_up
from gateway.workers import Worker
from trading.decision.policy import DecisionPolicy
from trading.risk import limits_file
from trading.risk.limits import LimitSet, LimitsFile
from trading.risk.trading_state import TradingState
from trading.state.log import log_name
from trading.state.recovery import Restored

#: Ticks of several symbols, whose rows fill the largest batch.
log = structlog.get_logger()


class Gateway:
    """The pipeline with what must be closed after it."""

    def __init__(self, pipeline: Pipeline, model: str, instance: str, close: Callable[[], None]) -> None:
        self.pipeline = pipeline
        self.model, self.instance = model, instance
        #: Close everything, in the reverse order of building.
        self.close = close


class ServedModel(Struct, frozen=True):
    """A model server that keeps its contract, and how its targets become orders."""

    predictor: Server
    policy: DecisionPolicy
    limits: LimitSet


class Controlled(Struct, frozen=True):
    """What a person may tell this gateway, and where it is heard."""

    control: Control
    listener: ControlListener
    stored: RedisStateStore
    states: StateStore
    reservations: RedisReservations
    workers: list[Worker]


def build(settings: GatewaySettings, log_level: LogLevel) -> Gateway:
    """Connect to all servers and check them; whatever was opened is closed if one of them fails.

    Raises:
        ServiceUnavailable: a server does not answer.
        ConfigurationError: a topic, port or model is not as it must be.
    """
    with ExitStack() as opened:
        # Before the group is joined: a port that is taken must not move partitions.
        token = settings.admin_token.get_secret_value()
        admin = AdminServer(settings.metrics_host, settings.metrics_port, token)
        opened.callback(admin.close)
        instance = Instance(settings.kafka_bootstrap, settings.group, settings.instance)
        opened.callback(instance.close)
        cluster = check_cluster(settings.kafka_bootstrap, settings.topics)
        served = serve_model(settings, instance.name, cluster, opened)
        metrics = PrometheusMetrics()
        controlled = listen_to_people(settings, served.limits, metrics, opened)
        model = f"{served.predictor.model_name}/{served.predictor.model_version}"
        rehearse_start(
            settings, instance.name, model, served.predictor, controlled.control, controlled.states, metrics, admin
        )
        # Last, so that who tells of a start decides; and then it follows what is released, and tells of each.
        served.predictor.follow(first_word(settings, instance.name, cluster, served.predictor))
        running = put_together(settings, instance.name, cluster, served, controlled, metrics, opened)
        operations = Operations(settings, running, controlled.control, log_level)
        controlled.listener.follow(operations.act)
        state = StateCollector(
            lambda: controlled.states.trading_state().value, [state.value for state in TradingState],
            lambda: len(operations.readiness().problems), served.predictor.servers,
        )  # fmt: skip
        metrics.registry.register(state)
        admin.serve(
            AdminPort(
                operations.health, operations.readiness, operations.status, operations.command,
                running.metrics.registry,
            )
        )  # fmt: skip
        # Closed first too: nobody is answered from parts that are closed.
        opened.callback(admin.close)
        return Gateway(running.pipeline, model, instance.name, opened.pop_all().close)
    raise AssertionError("unreachable")


def serve_model(settings: GatewaySettings, instance: str, cluster: Cluster, opened: ExitStack) -> ServedModel:
    """Connect to the model, learn how its answers depend on a batch, and use everything once."""
    predictor = wait_for_server(settings, instance)
    opened.callback(predictor.close)
    probe = probe_ticks()
    serving = predictor.settle_rows(probe_rows(probe))
    log.info("a row's answer does not depend on its batch", padded_to_multiples_of=serving.rows_multiple)
    base = settings.limit_set(cluster.partitions)
    policy = settings.policy(base)
    warm_up(probe, predictor, policy, SystemClock())
    return ServedModel(predictor, policy, base)


def listen_to_people(
    settings: GatewaySettings, base: LimitSet, metrics: PrometheusMetrics, opened: ExitStack
) -> Controlled:
    """The latched trading state, limits that are proven, commands, and the desk's common limit."""
    redis_url = settings.redis_url.get_secret_value()
    stored = RedisStateStore(redis_url)
    opened.callback(stored.close)
    control = Control(settings.kafka_bootstrap, settings.topics.control, redis_url)
    listener = listen(settings, control, base, lambda: metrics.bad_record("control"))
    opened.callback(listener.close)
    states, kill_file = trading_states(settings, stored, listener, control, opened)
    reservations = RedisReservations(
        redis_url,
        settings.account,
        settings.group,
        lambda: None if (limits := listener.limits) is None else limits.book.max_desk_notional,
    )
    opened.callback(reservations.close)
    self_test(listener.limits or base)
    workers = [listener.worker, stored.worker, reservations.worker, *kill_file]
    return Controlled(control, listener, stored, states, reservations, workers)


def put_together(
    settings: GatewaySettings,
    instance: str,
    cluster: Cluster,
    served: ServedModel,
    controlled: Controlled,
    metrics: PrometheusMetrics,
    opened: ExitStack,
) -> Running:
    """The pipeline on its adapters; the group is joined here, last."""
    bootstrap, topics, clock = settings.kafka_bootstrap, settings.topics, SystemClock()
    fills, cancels = (None, None) if served.policy.assumed_fills else open_broker(settings, metrics, opened)
    fast = RedisSnapshots(settings.redis_url.get_secret_value(), settings.group)
    name = log_name(cluster.id, cluster.ticks_id, cluster.decisions_id, settings.group)
    keeper = SnapshotKeeper(fast, name, settings.snapshot_s, settings.durable_snapshot_s, metrics.snapshot)
    opened.callback(keeper.close)
    logs = partition_logs(settings, cluster, name, fast, controlled, opened)
    restore = rebuilder(settings, cluster, logs, served.limits, controlled, metrics)
    assignment = PartitionAssignment(
        served.limits, metrics, [keeper, controlled.reservations], controlled.reservations, fills
    )
    challengers = open_challengers(settings, controlled, opened)
    tracer = tracer_if_asked(settings.trace_exporter, "ultrathink-gateway", settings.trace_share, opened)
    # Before the first partition is rebuilt.
    metrics.watch_compiled()
    source = KafkaTickSource(bootstrap, settings.group, instance, topics.ticks, name, restore, assignment)
    opened.callback(source.close)
    sink = open_sink(settings, instance, name, source)
    breaker = open_breaker(settings, metrics, clock)
    ports = Ports(
        source, GuardedPredictor(served.predictor, breaker), sink, keeper, controlled.states, clock, metrics,
        events=KafkaEvents(controlled.listener, fills),
        cancels=cancels,
        reservations=controlled.reservations,
        tracer=tracer,
        canaries=challengers,
    )  # fmt: skip
    pipeline = Pipeline(ports, assignment.states, served.policy, settings.admission(), settings.pipeline())
    assignment.begin(pipeline, sink)
    metrics.watch_books(assignment.states.books)
    workers = [*controlled.workers, *served.predictor.workers, challengers.worker, keeper.worker, source.worker]
    return Running(
        instance, pipeline, source, served.predictor, breaker, controlled.stored, controlled.states, assignment,
        metrics, controlled.listener, [*workers, *working(fills)], challengers,
    )  # fmt: skip


def open_challengers(settings: GatewaySettings, controlled: Controlled, opened: ExitStack) -> Challengers:
    """What finds and asks the challengers of experiments that divide units."""
    found = Challengers(settings.tritons, lambda: controlled.listener.experiments, probe_rows(probe_ticks()))
    opened.callback(found.close)
    found.worker.start()
    return found


def working(fills: FillsFeed | None) -> list[Worker]:
    """The thread that hears the broker, where there is one."""
    return [] if fills is None else [fills.worker]


def open_broker(
    settings: GatewaySettings, metrics: PrometheusMetrics, opened: ExitStack
) -> tuple[FillsFeed, KafkaCancels]:
    """What the broker reports, and how it is asked to end orders."""
    fills = FillsFeed(settings.kafka_bootstrap, settings.topics, lambda: metrics.bad_record("fills"))
    opened.callback(fills.close)
    cancels = KafkaCancels(settings.kafka_bootstrap, settings.topics.orders)
    opened.callback(cancels.close)
    return fills, cancels


def partition_logs(
    settings: GatewaySettings,
    cluster: Cluster,
    name: str,
    fast: RedisSnapshots,
    controlled: Controlled,
    opened: ExitStack,
) -> Callable[[int], KafkaPartitionLog]:
    """What opens the log of a partition; its connections are made while the group is joined."""
    was = earlier_names(name, controlled.listener.rebindings, settings.rebinding_keys)
    place = LogPlace(settings.kafka_bootstrap, cluster.id, settings.group, settings.topics, name, was)
    watermarks = Watermarks(place.bootstrap, place.group)
    opened.callback(watermarks.close)
    watermarks.prepare(place.topics.ticks)
    return open_logs(place, fast, controlled.listener, watermarks)


def rebuilder(
    settings: GatewaySettings,
    cluster: Cluster,
    logs: Callable[[int], KafkaPartitionLog],
    limits: LimitSet,
    controlled: Controlled,
    metrics: PrometheusMetrics,
) -> Callable[[int], Restored]:
    """What rebuilds a partition that comes."""
    recovery = PartitionRecovery(
        logs, settings.admission(), limits, SystemClock(),
        settings.topics.decisions, metrics.restored, lambda: metrics.bad_record("decisions"),
        partial(halt_for_lost, controlled.control, metrics, settings.topics.ticks),
    )  # fmt: skip
    return known_alone(cluster.partitions, settings.topics.ticks, recovery.restore)


def open_sink(settings: GatewaySettings, instance: str, name: str, source: KafkaTickSource) -> DecisionSink:
    """Exactly or at least once, as the settings say."""
    if settings.delivery == "exactly-once":
        return TransactionalSink(
            settings.kafka_bootstrap, settings.topics, settings.group, instance, name,
            lambda renew: source.group_metadata(renew=renew),
        )  # fmt: skip
    return KafkaDecisionSink(settings.kafka_bootstrap, settings.topics)


def halt_for_lost(control: Control, metrics: PrometheusMetrics, topic: str, partition: int, count: int) -> None:
    """Ticks were deleted before they were decided: nobody trades until a human has looked.

    Raises ServiceUnavailable where nobody could be told: the partition is not taken over then.
    """
    metrics.lost(count)
    control.latch(
        TradingState.HALTED,
        f"{count:,} messages of {topic}[{partition}] were deleted before they were decided",
        "gateway",
    )


def open_breaker(settings: GatewaySettings, metrics: PrometheusMetrics, clock: SystemClock) -> CircuitBreaker:
    """Its changes are counted and logged."""

    def changed(state: BreakerState) -> None:
        metrics.breaker(state.value)
        log.warning("circuit breaker", state=state.value)

    return CircuitBreaker(lambda: clock.monotonic_ns() / 1e9, settings.breaker_failures, changed=changed)


def listen(
    settings: GatewaySettings, control: Control, base: LimitSet, bad_record: Callable[[], None]
) -> ControlListener:
    """Hear the control topic; the limits of a desk that has none yet are told there first.

    So every limit that ever held lies in the log. A file that differs from what is in force there changes
    nothing: `ultrathink risk limits apply` does.

    Raises:
        ConfigurationError: the limits file is refused, or those in force are not understood.
    """
    given = LimitsFile() if settings.limits_file is None else limits_file.read(settings.limits_file)
    if (found := control.limits()) is None:
        control.apply(given, "first start", "gateway")
    elif settings.limits_file is not None and found[1] != given:
        log.warning("the limits file is not what is in force", file=str(settings.limits_file), set_by=found[0].by)
    return ControlListener(settings.kafka_bootstrap, settings.topics.control, base, bad_record)


def trading_states(
    settings: GatewaySettings,
    stored: RedisStateStore,
    listener: ControlListener,
    control: Control,
    opened: ExitStack,
) -> tuple[StateStore, list[Worker]]:
    """The latches, under the kill file where there is one; with the threads that this takes."""
    states = DualLatch(stored, lambda: listener.latched)
    if settings.kill_file is None:
        return states, []
    file = KillFile(settings.kill_file, states, lambda why: control.latch(TradingState.KILLED, why, "kill file"))
    opened.callback(file.close)
    return file, [file.worker]

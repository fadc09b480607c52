"""Builds the adapters and returns the gateway: the only place that chooses implementations."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from connectors.kafka.cluster import check_cluster
from connectors.kafka.topics import Topics
from connectors.logs import LogLevel
from gateway.adapters.admin import AdminPort, AdminServer
from gateway.adapters.clock import SystemClock
from gateway.adapters.kafka_fills import FillsFeed, KafkaInputs
from gateway.adapters.kafka_recovery import KafkaRecovery
from gateway.adapters.kafka_sink import KafkaDecisionSink
from gateway.adapters.kafka_source import KafkaTickSource
from gateway.adapters.kafka_transactions import TransactionalSink
from gateway.adapters.metrics import PrometheusMetrics
from gateway.adapters.redis import RedisStateStore
from gateway.adapters.redis_reservations import RedisReservations
from gateway.adapters.redis_snapshots import RedisSnapshots, SnapshotKeeper
from gateway.adapters.triton import TritonPredictor
from gateway.breaker import BreakerState, CircuitBreaker, GuardedPredictor
from gateway.control.control import Control, TwiceLatched
from gateway.control.kill_file import KillFile
from gateway.control.topic import ControlListener
from gateway.instance import Instance
from gateway.operations import Operations
from gateway.partitions import PartitionStates
from gateway.pipeline import Pipeline
from gateway.ports import DecisionSink, Restored, StateStore
from gateway.settings import GatewaySettings
from gateway.warm_up import warm_up
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.features.engine import FeatureEngine
from trading.history import open_source
from trading.market import TickBatch
from trading.risk import limits_file
from trading.risk.limits import LimitSet, LimitsFile
from trading.risk.self_test import prove_all
from trading.risk.trading_state import TradingState
from trading.state.partition import PartitionState

#: How long a server that does not answer yet is waited for at the start.
START_PATIENCE_S = 30.0
#: Ticks of several symbols, whose rows fill the largest batch.
PROBE = "simulate:regimes?seed=11&ticks=1024&symbols=3"
log = structlog.get_logger()


class Gateway:
    """The pipeline with what must be closed after it."""

    def __init__(self, pipeline: Pipeline, model: str, instance: str, closers: list[Callable[[], None]]) -> None:
        self.pipeline = pipeline
        self.model, self.instance = model, instance
        self._closers = closers

    def close(self) -> None:
        """Close everything, in the reverse order of building."""
        while self._closers:
            self._closers.pop()()


def build(settings: GatewaySettings, log_level: LogLevel) -> Gateway:
    """Connect to all servers and check them.

    Raises:
        ServiceUnavailable: a server does not answer.
        ConfigurationError: a topic, port or model is not as it must be.
    """
    topics = Topics(
        settings.ticks_topic,
        settings.decisions_topic,
        settings.dead_letters_topic,
        settings.snapshots_topic,
        settings.control_topic,
        settings.orders_topic,
        settings.fills_topic,
    )
    bootstrap, redis_url = settings.kafka_bootstrap, settings.redis_url.get_secret_value()
    token = settings.admin_token.get_secret_value()
    # Before the group is joined: a port that is taken must not move partitions.
    admin = AdminServer(settings.metrics_host, settings.metrics_port, token)
    instance = Instance(bootstrap, settings.group, settings.instance)
    cluster = check_cluster(bootstrap, topics, settings.group)
    predictor = wait_for_triton(settings)
    probe = [record.tick for record in open_source(PROBE).records()]
    rows = predictor.settle_rows(FeatureEngine().update(TickBatch.from_ticks(probe)).values)
    log.info("a row's answer does not depend on its batch", padded_to_multiples_of=rows)
    base = settings.limit_set(cluster.partitions)
    policy, clock = settings.policy(base), SystemClock()
    warm_up(probe, predictor, policy, clock)
    stored = RedisStateStore(redis_url)

    control = Control(bootstrap, topics.control, redis_url)
    listener = listen(settings, control, base)
    fills = None if policy.assumed_fills else FillsFeed(bootstrap, topics)
    states, kill_file = trading_states(settings, stored, listener, control)
    reservations = RedisReservations(
        redis_url,
        settings.account,
        settings.group,
        lambda: None if (limits := listener.limits) is None else limits.book.max_desk_notional,
    )
    self_test(listener.limits or base)
    metrics = PrometheusMetrics()
    fast = RedisSnapshots(redis_url, settings.group)
    keeper = SnapshotKeeper(fast, cluster.log, settings.snapshot_s, settings.durable_snapshot_s, metrics.snapshot)
    recovery = KafkaRecovery(
        bootstrap, settings.group, topics, cluster.log, fast, settings.admission(), base, listener,
        metrics.restored,
    )  # fmt: skip
    ownership = Ownership(keeper, metrics, base, fills, reservations)
    source = KafkaTickSource(bootstrap, settings.group, instance.name, topics.ticks, recovery.restore, ownership)
    sink: DecisionSink
    if settings.delivery == "exactly-once":
        sink = TransactionalSink(
            bootstrap, topics, settings.group, instance.name, lambda renew: source.group_metadata(renew=renew)
        )
    else:
        sink = KafkaDecisionSink(bootstrap, topics)

    def breaker_changed(found: BreakerState) -> None:
        metrics.breaker(found.value)
        log.warning("circuit breaker", state=found.value)

    tracer = None
    if settings.trace_exporter != "none":
        # Its import takes longer than a snapshot does to load.
        from connectors.tracing import open_tracer

        tracer = open_tracer(settings.trace_exporter, "ultrathink-gateway", settings.trace_share)
    breaker = CircuitBreaker(time.monotonic, settings.breaker_failures, changed=breaker_changed)
    pipeline = Pipeline(
        source,
        GuardedPredictor(predictor, breaker),
        sink,
        keeper,
        states,
        clock,
        metrics,
        ownership.state,
        policy,
        settings.admission(),
        settings.pipeline(),
        tracer,
        KafkaInputs(listener, fills),
        reservations,
    )
    ownership.begin(pipeline, sink)
    metrics.watch_books(ownership.state.books)
    operations = Operations(
        settings, instance.name, pipeline, source, predictor, breaker, stored, states,
        control, log_level, ownership.partitions, ownership.state.books,
    )  # fmt: skip
    listener.follow(operations.act)
    admin.serve(
        AdminPort(operations.health, operations.readiness, operations.status, operations.command, metrics.registry)
    )
    model = f"{predictor.model_name}/{predictor.model_version}"
    closers = [
        instance.close,
        *([] if tracer is None else [tracer.close]),
        *([] if fills is None else [fills.close]),
        *kill_file,
        reservations.close,
        stored.close,
        listener.close,
        keeper.close,
        predictor.close,
        source.close,
        admin.close,
    ]
    return Gateway(pipeline, model, instance.name, closers)


class Ownership:
    """Implements Assignment: what happens as partitions come and go."""

    def __init__(
        self,
        keeper: SnapshotKeeper,
        metrics: PrometheusMetrics,
        limits: LimitSet,
        fills: FillsFeed | None,
        reservations: RedisReservations,
    ) -> None:
        self.state = PartitionStates(lambda: PartitionState(limits))
        self._keeper, self._metrics, self._fills, self._reservations = keeper, metrics, fills, reservations
        self._owned: set[int] = set()

    def begin(self, pipeline: Pipeline, sink: DecisionSink) -> None:
        """Before the first poll."""
        self._pipeline, self._sink = pipeline, sink

    def partitions(self) -> list[int]:
        """Those that are decided here now."""
        return sorted(self._owned)

    def ready(self, partition: int, restored: Restored) -> None:
        """A partition was rebuilt."""
        self._pipeline.adopt(partition, restored)
        # So that something is reserved before the first order.
        self._reservations.quota(partition, restored.state.book.gross)
        if self._fills is not None:
            self._fills.begin(partition, restored.state.fills_to)
        self._owned.add(partition)
        self._metrics.partitions(len(self._owned))

    def revoked(self, partitions: list[int]) -> None:
        """Finish and forget what is being given away."""
        self._pipeline.drain()
        self._forget(partitions)

    def lost(self, partitions: list[int]) -> None:
        """Forget what another gateway has already."""
        self._pipeline.abandon(partitions)
        self._forget(partitions)

    def _forget(self, partitions: list[int]) -> None:
        self._pipeline.forget(partitions)
        for partition in partitions:
            self._sink.forget(partition)
            self._keeper.forget(partition)
            self._reservations.forget(partition)
            if self._fills is not None:
                self._fills.forget(partition)
            self.state.drop(partition)
            self._owned.discard(partition)
        self._metrics.partitions(len(self._owned))
        log.info("partitions gone", partitions=partitions)


def listen(settings: GatewaySettings, control: Control, base: LimitSet) -> ControlListener:
    """Hear the control topic; the limits of a desk that has none yet are told there first.

    So every limit that ever held lies in the log. A file that differs from what is in force there changes
    nothing: `ultrathink risk limits apply` does.

    Raises:
        ConfigurationError: the limits file is refused.
    """
    given = LimitsFile() if settings.limits_file is None else limits_file.read(settings.limits_file)
    if (found := control.limits()) is None:
        control.apply(given, "first start", "gateway")
    elif settings.limits_file is not None and found[1] != given:
        log.warning("the limits file is not what is in force", file=str(settings.limits_file), set_by=found[0].by)
    return ControlListener(settings.kafka_bootstrap, settings.control_topic, base)


def trading_states(
    settings: GatewaySettings, stored: RedisStateStore, listener: ControlListener, control: Control
) -> tuple[StateStore, list[Callable[[], None]]]:
    """The latches, under the kill file where there is one; and what must be closed."""
    states = TwiceLatched(stored, lambda: listener.latched)
    if settings.kill_file is None:
        return states, []
    file = KillFile(settings.kill_file, states, lambda why: control.latch(TradingState.KILLED, why, "kill file"))
    return file, [file.close]


def self_test(limits: LimitSet) -> None:
    """Every limit that is set can deny, and does not deny everything; else no gateway.

    Raises:
        ConfigurationError: with each limit that is not proven.
    """
    began = time.monotonic()
    proofs = prove_all(limits)
    problems = [f"  {p.rule} ({p.scope}): {p.problem}" for p in proofs if p.problem]
    if problems:
        raise ConfigurationError(
            "limits are not proven; see `ultrathink risk selftest`, and set others with "
            "`ultrathink risk limits apply`:\n" + "\n".join(problems)
        )
    log.info("limits proven", rules=sum(p.on for p in proofs), seconds=round(time.monotonic() - began, 3))


def wait_for_triton(settings: GatewaySettings) -> TritonPredictor:
    """Connect and check; a server that is being restarted is waited for, a wrong model is not."""
    deadline = time.monotonic() + START_PATIENCE_S
    while True:
        try:
            return TritonPredictor(settings.triton_url, settings.model_name, settings.model_version)
        except ServiceUnavailable as error:
            if time.monotonic() > deadline:
                raise
            log.info("waiting for Triton", reason=str(error)[:200])
            time.sleep(1.0)

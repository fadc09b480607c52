"""Builds the adapters and returns the gateway: the only place that chooses implementations."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from gateway.adapters.clock import SystemClock
from gateway.adapters.kafka import (
    KafkaDecisionSink,
    KafkaRecovery,
    KafkaTickSource,
    check_topics,
    letter_of,
)
from gateway.adapters.metrics import PrometheusMetrics
from gateway.adapters.redis import RedisStateStore
from gateway.adapters.triton import TritonPredictor
from gateway.domain.errors import ServiceUnavailable
from gateway.domain.features import FeatureEngine
from gateway.domain.schemas import Tick, TickBatch
from gateway.offsets import OffsetTracker
from gateway.pipeline import Pipeline
from gateway.settings import GatewaySettings
from gateway.state import GatewayState

WARM_UP_TIMEOUT_S = 10.0
#: How long a server that does not answer yet is waited for at the start.
START_PATIENCE_S = 30.0
log = structlog.get_logger()


class Gateway:
    """The pipeline with what must be closed after it."""

    def __init__(self, pipeline: Pipeline, model: str, closers: list[Callable[[], None]]) -> None:
        self.pipeline = pipeline
        self.model = model
        self._closers = closers

    def close(self) -> None:
        """Close everything, in the reverse order of building."""
        while self._closers:
            self._closers.pop()()


def build(settings: GatewaySettings) -> Gateway:
    """Connect to all servers and check them.

    Raises:
        ServiceUnavailable: a server does not answer.
        ConfigurationError: a topic, port or model is not as it must be.
    """
    topics = [settings.ticks_topic, settings.decisions_topic, settings.dead_letters_topic]
    partitions = check_topics(settings.kafka_bootstrap, topics)
    predictor = wait_for_triton(settings)
    states = RedisStateStore(settings.redis_url.get_secret_value())
    metrics = PrometheusMetrics(settings.metrics_host, settings.metrics_port)
    state, tracker = GatewayState(), OffsetTracker()

    owned: set[int] = set()
    warm_up(predictor)

    def take(partition: int) -> int:
        start = recovery.restore(partition, state)
        owned.add(partition)
        metrics.partitions(len(owned))
        log.info("partition taken", partition=partition, offset=start)
        return start

    sink = KafkaDecisionSink(
        settings.kafka_bootstrap, settings.decisions_topic, settings.dead_letters_topic, tracker.done
    )
    sink.connect()
    recovery = KafkaRecovery(
        settings.kafka_bootstrap,
        settings.group,
        settings.ticks_topic,
        settings.decisions_topic,
        bury=lambda message, reason: sink.dead_letter(letter_of(settings.ticks_topic, message, reason)),
    )

    def forget(gone: list[int]) -> None:
        for partition in gone:
            tracker.forget(partition)
            state.drop(partition)
            owned.discard(partition)
        metrics.partitions(len(owned))

    def give_away(gone: list[int]) -> None:
        pipeline.drain()
        forget(gone)

    def lose(gone: list[int]) -> None:
        pipeline.abandon(gone)
        forget(gone)

    source = KafkaTickSource(
        settings.kafka_bootstrap,
        settings.group,
        settings.ticks_topic,
        assigned=take,
        revoked=give_away,
        lost=lose,
    )
    pipeline = Pipeline(
        source,
        predictor,
        sink,
        states,
        SystemClock(),
        metrics,
        state,
        tracker,
        settings.policy(partitions),
        settings.pipeline(),
    )
    model = f"{predictor.model_name}/{predictor.model_version}"
    return Gateway(pipeline, model, [metrics.close, states.close, predictor.close, source.close])


def wait_for_triton(settings: GatewaySettings) -> TritonPredictor:
    """Connect and check; a server that is being restarted is waited for, a wrong model is not."""
    deadline = time.monotonic() + START_PATIENCE_S
    while True:
        try:
            return TritonPredictor(
                settings.triton_url, settings.model_name, settings.model_version, settings.max_in_flight
            )
        except ServiceUnavailable as error:
            if time.monotonic() > deadline:
                raise
            log.info("waiting for Triton", reason=str(error)[:200])
            time.sleep(1.0)


def warm_up(predictor: TritonPredictor) -> None:
    """Compile the kernel and open the channel before the first tick's budget runs."""
    tick = Tick("WARMUP", 1, bid=1.0, ask=2.0, bid_size=1.0, ask_size=1.0, last=1.5, last_size=1.0)
    rows = FeatureEngine().update(TickBatch.from_ticks([tick]))
    predictor.submit(rows.values, WARM_UP_TIMEOUT_S).result()

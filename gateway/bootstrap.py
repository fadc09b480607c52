"""Builds the adapters and returns the gateway: the only place that chooses implementations."""

from __future__ import annotations

from collections.abc import Callable

from gateway.adapters.clock import SystemClock
from gateway.adapters.kafka import KafkaDecisionSink, KafkaRecovery, KafkaTickSource, check_topics
from gateway.adapters.metrics import PrometheusMetrics
from gateway.adapters.redis import RedisStateStore
from gateway.adapters.triton import TritonPredictor
from gateway.offsets import OffsetTracker
from gateway.pipeline import Pipeline
from gateway.settings import GatewaySettings
from gateway.state import GatewayState


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
    predictor = TritonPredictor(settings.triton_url, settings.model_name, settings.model_version)
    states = RedisStateStore(settings.redis_url.get_secret_value())
    metrics = PrometheusMetrics(settings.metrics_host, settings.metrics_port)
    state, tracker = GatewayState(), OffsetTracker()
    recovery = KafkaRecovery(
        settings.kafka_bootstrap, settings.group, settings.ticks_topic, settings.decisions_topic
    )

    def forget(gone: list[int]) -> None:
        for partition in gone:
            tracker.forget(partition)
            state.drop(partition)

    def give_away(gone: list[int]) -> None:
        pipeline.drain()
        forget(gone)

    source = KafkaTickSource(
        settings.kafka_bootstrap,
        settings.group,
        settings.ticks_topic,
        assigned=lambda partition: recovery.restore(partition, state),
        revoked=give_away,
        lost=forget,
    )
    sink = KafkaDecisionSink(
        settings.kafka_bootstrap, settings.decisions_topic, settings.dead_letters_topic, tracker.done
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

"""Signals, start, stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack

from connectors.kafka.identity import act_as
from connectors.listening import serve_metrics
from connectors.logs import configure
from connectors.priority import yield_to_others
from services.experiments.checkpoints import CheckpointStore
from services.experiments.desk_control import KafkaExperiments, KafkaJournal
from services.experiments.observing import ExperimentMetrics
from services.experiments.service import ExperimentService
from services.experiments.settings import ExperimentsSettings
from services.experiments.watching import Open, WatcherParts


def run(
    settings: ExperimentsSettings,
    desk: tuple[str, str, str],
    opened: Open,
    listening: Callable[[int], None],
) -> None:
    """Watch the desk's experiments until SIGTERM or SIGINT.

    Args:
        settings: of this process.
        desk: broker addresses, the control topic, and what names the desk's logs.
        opened: opens a run of an experiment.
        listening: told of the port of the metrics, once it is bound.

    Raises:
        ServiceUnavailable: Kafka does not answer.
        ConfigurationError: the port cannot be had, or the folder cannot be made.
    """
    configure("info")
    act_as("experiments")
    # What decides has a budget of milliseconds; what compares has seconds.
    yield_to_others(settings.nice)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    bootstrap, topic, log_name = desk
    with ExitStack() as open_things:
        metrics = ExperimentMetrics()
        store = CheckpointStore(settings.folder, log_name)
        control = KafkaExperiments(bootstrap, topic)
        open_things.callback(control.close)
        journal = KafkaJournal(bootstrap, settings.experiments_topic)
        parts = WatcherParts(control, journal, store, metrics, opened, settings.keep_s)
        port, close = serve_metrics(
            metrics.registry, settings.metrics_host, settings.metrics_port, "ULTRATHINK_EXPERIMENTS_METRICS_PORT"
        )
        open_things.callback(close)
        listening(port)
        ExperimentService(parts).run(stopping)

"""Signals, start, stop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from msgspec import Struct

from connectors.ending import told_to_end
from connectors.kafka.cluster import identified
from connectors.kafka.identity import act_as
from connectors.kafka.topics import Topics
from connectors.listening import serve_metrics
from connectors.logs import configure
from connectors.priority import yield_to_others
from services.experiments.checkpoints import DESK, SHADOW, CheckpointStore
from services.experiments.desk_control import KafkaExperiments, KafkaJournal
from services.experiments.desk_run import DeskDump, DeskRun
from services.experiments.observing import ExperimentMetrics
from services.experiments.running import RunDump, ShadowRun
from services.experiments.service import ExperimentService, Sides
from services.experiments.settings import ExperimentsSettings
from services.experiments.watching import Opening, Side, WatcherParts
from trading.state.log import log_name


class WatchedDesk(Struct, frozen=True):
    """Whose experiments are watched: broker addresses, topics, and the group of its gateways."""

    bootstrap: str
    topics: Topics
    group: str


class Opened(Struct, frozen=True):
    """Who opens runs: of shadows, and of what a canary's arms decide on the desk; see `Side`."""

    shadow: Callable[[Opening[RunDump]], AbstractContextManager[ShadowRun]]
    desk: Callable[[Opening[DeskDump]], AbstractContextManager[DeskRun]]


def run(settings: ExperimentsSettings, desk: WatchedDesk, opened: Opened, listening: Callable[[int], None]) -> None:
    """Watch the desk's experiments until SIGTERM or SIGINT.

    Args:
        settings: of this process.
        desk: whose.
        opened: opens runs of experiments.
        listening: told of the port of the metrics, once it is bound.

    Raises:
        ServiceUnavailable: Kafka does not answer.
        ConfigurationError: the port cannot be had, or the folder cannot be made.
    """
    configure("info")
    act_as("experiments")
    # What decides has a budget of milliseconds; what compares has seconds.
    yield_to_others(settings.nice)
    stopping = told_to_end()
    bootstrap = desk.bootstrap
    # As who this is: an operator's password lies elsewhere.
    found = identified(bootstrap, desk.topics)
    name = log_name(found.id, found.ticks_id, found.decisions_id, desk.group)
    with ExitStack() as open_things:
        metrics = ExperimentMetrics()
        sides = Sides(
            Side("shadow", opened.shadow, CheckpointStore(settings.folder, name, SHADOW)),
            Side("desk", opened.desk, CheckpointStore(settings.folder, name, DESK)),
        )
        control = KafkaExperiments(bootstrap, desk.topics.control)
        open_things.callback(control.close)
        journal = KafkaJournal(bootstrap, settings.experiments_topic)
        parts = WatcherParts(control, journal, metrics, settings.keep_s)
        port, close = serve_metrics(
            metrics.registry, settings.metrics_host, settings.metrics_port, "ULTRATHINK_EXPERIMENTS_METRICS_PORT"
        )
        open_things.callback(close)
        listening(port)
        ExperimentService(sides, parts).run(stopping)

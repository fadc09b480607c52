"""A canary of this desk, counted by the desk's own decisions: no model is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from connectors.kafka.cluster import require
from gateway.settings import GatewaySettings
from services.experiments.desk_log import AT_ONCE_PACE, KafkaCommands, KafkaDecisions
from services.experiments.desk_run import DeskDump, DeskRun
from services.experiments.live_series import LiveSeries
from services.experiments.partition_canary import PartitionCanary
from services.experiments.watching import Opening
from stack.workflows.experiments.shadow import first_places, rules_of


@contextmanager
def desk_run(opening: Opening[DeskDump], settings: GatewaySettings) -> Iterator[DeskRun]:
    """Begin to count, or go on.

    Args:
        opening: what is counted, and from where.
        settings: of the desk's gateways: where its logs are.

    Raises:
        CheckpointRefused: what was kept is of another version, or of other partitions.
        ServiceUnavailable: Kafka does not answer.
    """
    topics, bootstrap, resumed = settings.topics, settings.kafka_bootstrap, opening.resumed
    definition, partitions = opening.experiment.definition, require(bootstrap, topics.decisions)
    if resumed is None:
        places, decided = first_places(settings, partitions, opening.since_ns), None
    else:
        places, decided = resumed.places.positions, resumed.places.decided
    base, _ = rules_of(settings, len(partitions))
    commands = KafkaCommands(bootstrap, topics.control, base)
    canaries = {p: PartitionCanary(p, definition, opening.arms, base, commands) for p in partitions}
    with closing(KafkaDecisions(bootstrap, topics, places, AT_ONCE_PACE, decided)) as log:
        run = DeskRun(definition, log, canaries, LiveSeries(definition.arms, len(partitions)))
        if resumed is not None:
            run.load(resumed)
        yield run

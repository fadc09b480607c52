"""The books as they stand in the logs: rebuilt as a gateway would, beside those that run, and changing nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import structlog
from msgspec import Struct

from connectors.kafka.cluster import check_cluster
from connectors.kafka.watermarks import Watermarks
from gateway.adapters.kafka_recovery import LogPlace, open_logs
from gateway.adapters.redis_snapshots import RedisSnapshots
from gateway.control.earlier_logs import earlier_names
from gateway.control.topic import ControlListener
from gateway.settings import GatewaySettings
from trading.portfolio.book import Book
from trading.state.log import log_name
from trading.state.recovery import Recovery

log = structlog.get_logger()


class PartitionBook(Struct, frozen=True):
    """A partition's book.

    Attributes:
        partition: of the ticks.
        next_offset: of the first tick that is not in it.
        book: as it was before that tick.
    """

    partition: int
    next_offset: int
    book: Book


def read_books(
    settings: GatewaySettings, progress: Callable[[int, int], None] = lambda _done, _all: None
) -> list[PartitionBook]:
    """Every partition's book, from its newest snapshot and what was decided since.

    Args:
        settings: of the desk's gateways.
        progress: told how many of how many partitions are read.

    Raises:
        ServiceUnavailable: Kafka does not answer.
        ConfigurationError: a topic is missing or was made anew, or the limits in force are not understood.
    """
    cluster = check_cluster(settings.kafka_bootstrap, settings.topics)
    base = settings.limit_set(cluster.partitions)
    name = log_name(cluster.id, cluster.ticks_id, cluster.decisions_id, settings.group)
    found: list[PartitionBook] = []
    with (
        closing(ControlListener(settings.kafka_bootstrap, settings.topics.control, base)) as listener,
        closing(RedisSnapshots(settings.redis_url.get_secret_value(), settings.group)) as fast,
        closing(Watermarks(settings.kafka_bootstrap, settings.group)) as watermarks,
    ):
        was = earlier_names(name, listener.rebindings, settings.rebinding_keys)
        place = LogPlace(settings.kafka_bootstrap, cluster.id, settings.group, settings.topics, name, was)
        logs = open_logs(place, fast, listener, watermarks)
        listener.follow(lambda _: None)
        for partition in range(cluster.partitions):
            progress(partition, cluster.partitions)
            recovery = Recovery(logs(partition), settings.admission(), base, set_aside(partition))
            recovery.read()
            restored = recovery.replay()
            found.append(PartitionBook(partition, restored.next_offset, restored.state.book))
    return found


def set_aside(partition: int) -> Callable[[str], None]:
    """Who looks has time: that a snapshot does not fit is no warning here."""
    return lambda why: log.debug("snapshot left aside", partition=partition, reason=why)

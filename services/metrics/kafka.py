"""Kafka by the names of kafka_exporter: brokers, offsets, replicas, and the lag of every group."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from connectors.kafka.admin import admin_client
from connectors.kafka.groups import ClusterState, cluster_state

PLACE = ["topic", "partition"]


class KafkaSource:
    """Implements Source over one connection."""

    name = "kafka"

    def __init__(self, bootstrap: str) -> None:
        """Nothing is asked yet."""
        self._bootstrap = bootstrap
        self._admin = admin_client(bootstrap)

    def look(self) -> Sequence[Metric]:
        """See Source. Raises ServiceUnavailable."""
        return families(cluster_state(self._admin, self._bootstrap))

    def close(self) -> None:
        """See Source: the client has nothing to be closed."""


def families(state: ClusterState) -> list[Metric]:
    """What is shown of a cluster.

    A group's lag is the log's end less the offset it goes on at. The marker that ends a transaction is a record of
    its own, so a group that has read everything of a topic that is written in transactions has a lag of one.
    """
    brokers = GaugeMetricFamily("kafka_brokers", "Brokers that answer.", value=state.brokers)
    end = GaugeMetricFamily("kafka_topic_partition_current_offset", "After its last record.", labels=PLACE)
    begin = GaugeMetricFamily("kafka_topic_partition_oldest_offset", "Of its first record.", labels=PLACE)
    under = GaugeMetricFamily(
        "kafka_topic_partition_under_replicated_partition", "1 while a replica does not follow.", labels=PLACE
    )
    for (topic, number), one in state.partitions.items():
        labels = [topic, str(number)]
        end.add_metric(labels, one.end)
        begin.add_metric(labels, one.begin)
        under.add_metric(labels, float(one.in_sync < one.replicas))
    of_group = ["consumergroup", *PLACE]
    current = GaugeMetricFamily("kafka_consumergroup_current_offset", "Where a group goes on.", labels=of_group)
    lag = GaugeMetricFamily("kafka_consumergroup_lag", "Records that a group has not finished.", labels=of_group)
    left = GaugeMetricFamily(
        "kafka_consumergroup_records_until_lost",
        "Records between the first that is kept and where a group goes on; below 0 some were deleted unread.",
        labels=of_group,
    )
    for group, places in state.committed.items():
        for (topic, number), offset in places.items():
            if (known := state.partitions.get((topic, number))) is None:
                continue
            labels = [group, topic, str(number)]
            current.add_metric(labels, offset)
            lag.add_metric(labels, max(0, known.end - offset))
            left.add_metric(labels, offset - known.begin)
    return [brokers, end, begin, under, current, lag, left]

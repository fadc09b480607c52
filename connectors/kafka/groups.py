"""A cluster at one moment, as who watches it wants to know it: offsets, replicas, and how far groups have come."""

from __future__ import annotations

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from msgspec import Struct

from connectors.kafka.admin import LIST_S, listed
from connectors.kafka.errors import translating

ASK_S = 5.0


class PartitionState(Struct, frozen=True):
    """Offsets of the first record and after the last one, and how many replicas there are and follow."""

    begin: int
    end: int
    replicas: int
    in_sync: int


class ClusterState(Struct, frozen=True):
    """What there is.

    Attributes:
        brokers: that answer.
        partitions: by topic and number; of Kafka's own topics nothing.
        committed: group -> topic and partition -> the offset it goes on at.
    """

    brokers: int
    partitions: dict[tuple[str, int], PartitionState]
    committed: dict[str, dict[tuple[str, int], int]]


def cluster_state(admin: AdminClient, bootstrap: str) -> ClusterState:
    """Look at everything that this process's role may see. Raises ServiceUnavailable."""
    metadata = listed(admin, bootstrap, LIST_S)
    found = {
        (name, number): partition
        for name, topic in metadata.topics.items()
        if not name.startswith("__")
        for number, partition in topic.partitions.items()
    }
    # Its stub has no types.
    first, last = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]
    begins, ends = (offsets(admin, list(found), spec) for spec in (first, last))
    partitions = {
        at: PartitionState(begins[at], ends[at], len(one.replicas), len(one.isrs))
        for at, one in found.items()
        if at in begins and at in ends
    }
    return ClusterState(len(metadata.brokers), partitions, committed(admin))


def offsets(admin: AdminClient, places: list[tuple[str, int]], spec: OffsetSpec) -> dict[tuple[str, int], int]:
    """Of partitions, those that answer: one that has no leader for a moment is left out."""
    if not places:
        return {}
    asked = admin.list_offsets(
        {TopicPartition(name, number): spec for name, number in places}, request_timeout=ASK_S
    )
    found = {}
    for place, future in asked.items():
        # Each has its own answer, and one that has none says nothing of the others.
        if future.exception(ASK_S) is None:
            found[place.topic, place.partition] = int(future.result().offset)
    return found


def committed(admin: AdminClient) -> dict[str, dict[tuple[str, int], int]]:
    """How far each group has come. Raises ServiceUnavailable."""
    with translating("the groups cannot be listed"):
        names = [group.group_id for group in admin.list_consumer_groups(request_timeout=ASK_S).result(ASK_S).valid]
    found = {}
    for name in names:
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)], request_timeout=ASK_S)
        if asked[name].exception(ASK_S) is not None:
            # Its coordinator is away for a moment; the others' say what they say.
            continue
        places = asked[name].result().topic_partitions
        found[name] = {(p.topic, p.partition): p.offset for p in places if p.offset >= 0 and p.error is None}
    return found

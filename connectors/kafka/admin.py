"""Topics made and described."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._metadata import ClusterMetadata
from confluent_kafka.cimpl import KafkaException, NewTopic

from connectors.kafka.errors import silent, translated, translating
from connectors.kafka.identity import credentials
from connectors.kafka.topics import KEPT, UNPARTITIONED
from trading.errors import ConfigurationError

__all__ = [
    "AdminClient",
    "ConfigResource",
    "NewTopic",
    "TopicCollection",
    "admin_client",
    "create_desk_topics",
    "delete_before",
    "keep_own_short",
    "listed",
]
LIST_S, CREATE_S = 10.0, 15.0
OWN_LOGS = ("__consumer_offsets", "__transaction_state")


def admin_client(bootstrap: str) -> AdminClient:
    """A client of this process's role that says nothing by itself."""
    return AdminClient({**credentials(), "bootstrap.servers": bootstrap, "log_level": 0})


def delete_before(bootstrap: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Delete a topic's records before an offset of each partition. Raises ServiceUnavailable."""
    places = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
    # Held until all have answered: nobody answers for a client that is gone.
    admin = admin_client(bootstrap)
    for future in admin.delete_records(places).values():
        with translating(f"records of {topic} cannot be deleted"):
            future.result(CREATE_S)


def listed(admin: AdminClient, bootstrap: str, timeout_s: float, topic: str | None = None) -> ClusterMetadata:
    """The topics that this process's user may know of, or one of them. Raises ServiceUnavailable."""
    try:
        return admin.list_topics(topic, timeout=timeout_s) if topic else admin.list_topics(timeout=timeout_s)
    except KafkaException as error:
        # What the client met by itself, as a password that is refused, is told here.
        admin.poll(0)
        raise translated(error, silent(bootstrap)) from error


def create_desk_topics(bootstrap: str, like: Mapping[str, str], partitions: int, replicas: int) -> None:
    """Create what is missing of a desk's topics. All are partitioned alike: a decision lies where its tick lay.

    Args:
        bootstrap: broker addresses.
        like: name -> role, which says how the topic is kept.
        partitions: of each but the control topic and the scratch topic, which have one.
        replicas: of each partition.

    Raises:
        ServiceUnavailable: the broker does not answer, or refuses.
        ConfigurationError: a topic is there with another number of partitions.
    """
    wanted = {name: 1 if role in UNPARTITIONED else partitions for name, role in like.items()}
    create_topics(bootstrap, {name: KEPT.get(role, {}) for name, role in like.items()}, wanted, replicas)
    present = listed(admin_client(bootstrap), bootstrap, LIST_S).topics
    # One that is still being made is not listed yet.
    found = {name: len(present[name].partitions) for name in like if name in present}
    if other := [f"{name} has {count}" for name, count in found.items() if count not in {0, wanted[name]}]:
        raise ConfigurationError(
            f"asked for {partitions} partitions, but {', '.join(other)}: ask for what is there, or begin with "
            "other topics; a symbol that moves to another partition would have two books"
        )


def create_topics(
    bootstrap: str, wanted: Mapping[str, Mapping[str, str]], partitions: Mapping[str, int], replicas: int
) -> None:
    """Create the topics that are missing, and keep all of them as they must be kept.

    Args:
        bootstrap: broker addresses.
        wanted: name -> configuration.
        partitions: name -> how many.
        replicas: of each partition.

    Raises:
        ServiceUnavailable: the broker does not answer, or refuses.
    """
    admin = admin_client(bootstrap)
    present = listed(admin, bootstrap, LIST_S).topics
    new = [
        NewTopic(name, num_partitions=partitions[name], replication_factor=replicas, config=dict(config))
        for name, config in wanted.items()
        if name not in present
    ]
    for name, future in (admin.create_topics(new) if new else {}).items():
        with translating(f"topic {name} cannot be created"):
            future.result(CREATE_S)
    configure(admin, {name: config for name, config in wanted.items() if name in present and config})


def keep_own_short(bootstrap: str, segment_bytes: int) -> None:
    """Have Kafka's own logs, of groups and of transactions, kept in small segments, where they are there already.

    For a broker of ours alone: in somebody's cluster they are not ours to configure. Raises ServiceUnavailable.
    """
    admin = admin_client(bootstrap)
    present = listed(admin, bootstrap, LIST_S).topics
    configure(admin, {name: {"segment.bytes": str(segment_bytes)} for name in OWN_LOGS if name in present})


def configure(admin: AdminClient, wanted: Mapping[str, Mapping[str, str]]) -> None:
    """Set what is named of each topic, and leave the rest. Raises ServiceUnavailable."""
    resources = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            name,
            incremental_configs=[
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                for key, value in config.items()
            ],
        )
        for name, config in wanted.items()
    ]
    for resource, future in (admin.incremental_alter_configs(resources) if resources else {}).items():
        with translating(f"topic {resource.name} cannot be configured"):
            future.result(CREATE_S)

"""Whether a cluster has what a desk needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from connectors.kafka.admin import AdminClient, ConfigResource, TopicCollection, admin_client, listed
from connectors.kafka.client import KafkaError, KafkaException
from connectors.kafka.errors import CONTROL_TIMEOUT_S, denied, is_denied, passes, translated, translating
from connectors.kafka.topics import Topics
from trading.errors import ConfigurationError, ServiceUnavailable

REQUIRE_S = 5.0
RETRY_S = 0.2


class Member(Protocol):
    """Of a consumer group, as its coordinator tells of it."""

    member_id: str
    group_instance_id: str | None


class Cluster(Struct, frozen=True):
    """The common number of partitions, and the ids of the cluster, the ticks' topic and the decisions'."""

    partitions: int
    id: str
    ticks_id: str
    decisions_id: str


def check_cluster(bootstrap: str, topics: Topics) -> Cluster:
    """Look at the topics.

    Raises:
        ServiceUnavailable: no broker answers.
        ConfigurationError: a topic is missing, or they are partitioned differently: a decision
            must lie in the partition of its tick; or the ticks are dated by their producers.
    """
    admin = admin_client(bootstrap)
    found = listed(admin, bootstrap, CONTROL_TIMEOUT_S)
    beside = [
        topics.ticks, topics.decisions, topics.dead_letters, topics.snapshots, topics.orders, topics.fills,
    ]  # fmt: skip
    missing = [n for n in (*beside, topics.control, topics.starts) if n not in found.topics]
    if missing:
        refuse_denied(bootstrap, missing)
        raise ConfigurationError(
            f"topic {', '.join(missing)} does not exist on {bootstrap}: `ultrathink kafka setup` makes a desk's"
        )
    counts = {n: len(found.topics[n].partitions) for n in beside}
    if len(set(counts.values())) != 1:
        raise ConfigurationError(f"the topics must have the same number of partitions: {counts}")
    check_clock(admin, topics.ticks)
    return identified(bootstrap, topics)


def identified(bootstrap: str, topics: Topics) -> Cluster:
    """What names the logs of a desk, for whoever may read its ticks and decisions and need not know of the rest.

    Raises ServiceUnavailable, and ConfigurationError where one of the two is missing.
    """
    admin, names = admin_client(bootstrap), [topics.ticks, topics.decisions]
    partitions = require(bootstrap, topics.decisions)
    require(bootstrap, topics.ticks)
    found = listed(admin, bootstrap, CONTROL_TIMEOUT_S)
    try:
        described = admin.describe_topics(TopicCollection(names))
        ids = [str(described[name].result(CONTROL_TIMEOUT_S).topic_id) for name in names]
    except KafkaException as error:
        raise translated(error, "Kafka does not describe its topics") from error
    return Cluster(len(partitions), str(found.cluster_id), *ids)


def refuse_denied(bootstrap: str, names: list[str]) -> None:
    """A list of all topics leaves out what one may not know of. Raises ServiceUnavailable for the first such."""
    admin = admin_client(bootstrap)
    for name in names:
        problem = listed(admin, bootstrap, REQUIRE_S, name).topics[name].error
        if problem is not None and is_denied(problem):
            raise denied(bootstrap, name)


def check_clock(admin: AdminClient, topic: str) -> None:
    """Ticks must be dated by the broker: a producer whose clock runs ahead would move everybody's.

    Raises:
        ServiceUnavailable: the broker does not describe the topic.
        ConfigurationError: with the command that sets it.
    """
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    (described,) = admin.describe_configs([resource]).values()
    with translating(f"the configuration of {topic} cannot be read"):
        found = described.result(CONTROL_TIMEOUT_S)["message.timestamp.type"].value
    if found != "LogAppendTime":
        raise ConfigurationError(
            f"{topic} is dated by its producers (message.timestamp.type={found}), and one whose clock runs ahead "
            f"would move everybody's: kafka-configs.sh --alter --entity-type topics --entity-name {topic} "
            "--add-config message.timestamp.type=LogAppendTime"
        )


def require(bootstrap: str, topic: str) -> list[int]:
    """The partitions of a topic that is there; asked without a word from librdkafka. Raises ServiceUnavailable."""
    found = listed(admin_client(bootstrap), bootstrap, REQUIRE_S, topic)
    if (problem := found.topics[topic].error) is not None:
        if is_denied(problem):
            raise denied(bootstrap, topic)
        if problem.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise ServiceUnavailable(no_topic(bootstrap, topic))
        raise ServiceUnavailable(f"Kafka at {bootstrap} does not tell of topic {topic}: {problem.str()}")
    return sorted(found.topics[topic].partitions)


def no_topic(bootstrap: str, topic: str) -> str:
    """A sentence for one that is not there."""
    return f"Kafka at {bootstrap} has no topic {topic}: `ultrathink kafka setup` makes what is missing"


def is_absent(error: KafkaException) -> bool:
    """Whether it says that there is no such topic."""
    return bool(error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART)


def topic_id(bootstrap: str, topic: str) -> str:
    """Of a topic as it is now: one that is made anew has another. Raises ServiceUnavailable."""
    require(bootstrap, topic)
    admin = admin_client(bootstrap)
    with translating(f"Kafka does not describe {topic}"):
        described = admin.describe_topics(TopicCollection([topic]), request_timeout=CONTROL_TIMEOUT_S)
        return str(described[topic].result(CONTROL_TIMEOUT_S).topic_id)


def static_member(bootstrap: str, group: str, instance: str) -> str | None:
    """The member id of who holds a static member's name in a consumer group; None where nobody does.

    A client id would not tell them apart: the group keeps that of the name's first holder.

    Raises ServiceUnavailable where the group cannot be asked.
    """
    members = members_of(bootstrap, group)
    return next((m.member_id for m in members if m.group_instance_id == instance), None)


def members_of(bootstrap: str, group: str) -> Sequence[Member]:
    """Who is in a consumer group; nobody where there is none. Raises ServiceUnavailable for no answer."""
    # Kept until it has answered: one that nobody holds answers nothing.
    admin, deadline = admin_client(bootstrap), time.monotonic() + REQUIRE_S
    while True:
        try:
            with translating(f"the consumer group {group} cannot be described"):
                asked = admin.describe_consumer_groups([group], request_timeout=REQUIRE_S)[group]
                found: Sequence[Member] = asked.result(2 * REQUIRE_S).members
            return found
        except ServiceUnavailable as error:
            # Its coordinator may have moved, or be reading what it knows of the group.
            cause = error.__cause__
            if not (isinstance(cause, KafkaException) and passes(cause.args[0])) or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)

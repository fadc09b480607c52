"""What each role may do, and that nobody may do more."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from connectors.kafka.access import ACCESS, allowed, bindings, take_away
from connectors.kafka.topics import TOPICS, Topics


def may(operation, topic):
    """The roles that may do this with a topic."""
    found = bindings(TOPICS)
    return {
        b.principal.removeprefix("User:")
        for b in found
        if b.restype is ResourceType.TOPIC and b.name == topic and b.operation is operation
    }


@pytest.mark.parametrize(
    ("topic", "writers"),
    [
        ("market.ticks", {"sender", "operator"}),
        ("trading.decisions", {"gateway"}),
        ("trading.orders", {"gateway"}),
        ("trading.fills", {"broker"}),
        ("gateway.control", {"gateway", "experiments", "operator"}),
        ("gateway.snapshots", {"gateway"}),
        ("market.ticks.dlq", {"gateway", "operator"}),
        ("models.releases", {"forensics"}),
        ("forensics.checkpoints", {"forensics"}),
    ],
)
def test_who_writes(topic, writers):
    assert may(AclOperation.WRITE, topic) == writers


def test_every_topic_is_read_by_somebody_and_only_the_desk_reads_what_steers_it():
    assert all(may(AclOperation.READ, topic) for topic in TOPICS.by_role().values())
    assert may(AclOperation.READ, "gateway.control") == {
        "gateway", "broker", "experiments", "forensics", "operator",
    }  # fmt: skip
    assert may(AclOperation.READ, "trading.fills") == {"gateway", "broker", "forensics", "operator"}


def test_nothing_is_granted_but_reading_writing_and_looking_up():
    found = bindings(TOPICS)
    assert {b.permission_type for b in found} == {AclPermissionType.ALLOW}
    assert {b.operation for b in found} == {
        AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS,
    }  # fmt: skip
    assert {b.restype for b in found} == {ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID}
    # Who watches sees that there is something, of everything, and reads nothing of it.
    everything = [b for b in found if b.name == "*"]
    assert {(b.principal, b.operation) for b in everything} == {("User:metrics", AclOperation.DESCRIBE)}
    assert {b.operation for b in found if b.principal == "User:metrics"} == {AclOperation.DESCRIBE}
    assert {b.principal.removeprefix("User:") for b in found} == set(ACCESS)


def test_permissions_follow_the_names_of_the_topics():
    found = bindings(Topics(ticks="other.ticks"))
    assert "market.ticks" not in {b.name for b in found}
    assert [b for b in found if b.name == "other.ticks" and b.principal == "User:sender"]


class FakeFuture:
    def __init__(self, value=None):
        self._value = value

    def result(self, timeout_s):
        return self._value


class FakeAdmin:
    """A cluster with permissions."""

    def __init__(self, present):
        self.present, self.deleted = present, []

    def describe_acls(self, _):
        return FakeFuture(self.present)

    def delete_acls(self, filters):
        self.deleted += [(f.name, f.principal, f.operation, f.permission_type) for f in filters]
        return {f: FakeFuture() for f in filters}


def test_only_what_this_desk_gave_is_taken_away():
    """Not another desk's on the same cluster, and never a refusal of somebody else's."""
    others = bindings(Topics(ticks="two.ticks", control="two.control", orders="two.orders"), "two")
    stale = allowed("reader", ResourceType.TOPIC, TOPICS.orders, AclOperation.WRITE)
    group = allowed("operator", ResourceType.GROUP, "gateway", AclOperation.READ, prefix=True)
    denied = AclBinding(
        ResourceType.TOPIC, TOPICS.orders, ResourcePatternType.LITERAL, "User:operator", "*", AclOperation.READ,
        AclPermissionType.DENY,
    )  # fmt: skip
    foreign = allowed("somebody", ResourceType.TOPIC, TOPICS.orders, AclOperation.READ)
    admin = FakeAdmin([*bindings(TOPICS), *others, stale, group, denied, foreign])
    take_away(admin, TOPICS, "gateway")
    assert [(name, principal) for name, principal, *_ in admin.deleted] == [
        (TOPICS.orders, "User:reader"), ("gateway", "User:operator"),
    ]  # fmt: skip

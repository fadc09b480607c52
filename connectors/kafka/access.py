"""What each role may do: the one table that the embedded brokers and a cluster elsewhere are set up by."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)
from msgspec import Struct

from connectors.kafka.admin import admin_client
from connectors.kafka.errors import translating
from connectors.kafka.identity import OPERATOR
from connectors.kafka.topics import Topics

GRANT_S = 15.0
#: RFC 7677's least is 4,096; each login costs so many hashes.
ITERATIONS = 8192


class Access(Struct, frozen=True):
    """What a role needs.

    Attributes:
        reads, writes: roles of topics.
        groups, transactions: what the names of its consumer groups and transactions begin with.
        looks_up: roles of topics whose configuration it checks.
    """

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    transactions: tuple[str, ...] = ()
    looks_up: tuple[str, ...] = ()


#: Our readers of a partition's past name this group and never join it.
READER = "ultrathink-"
ACCESS: dict[str, Access] = {
    "gateway": Access(
        reads=("ticks", "decisions", "dead_letters", "snapshots", "fills", "control"),
        # To the control topic: what halts the desk, and the limits of a first start.
        writes=("decisions", "dead_letters", "snapshots", "orders", "control"),
        groups=("gateway", READER),
        transactions=("gateway",),
        looks_up=("ticks",),
    ),
    "broker": Access(reads=("orders", "fills", "control"), writes=("fills",), groups=("paper-broker", READER)),
    "forensics": Access(reads=("decisions",), groups=("forensics", READER)),
    "sender": Access(writes=("ticks",), groups=(READER,)),
    "reader": Access(reads=("ticks", "decisions", "dead_letters"), groups=(READER,)),
    # Stops the desk, sets limits, sends dead letters again, and looks at everything.
    OPERATOR: Access(
        reads=("ticks", "decisions", "dead_letters", "snapshots", "orders", "fills", "control"),
        writes=("control", "ticks", "dead_letters"),
        groups=("gateway", READER),
        transactions=("dlq-replay-",),
        looks_up=("ticks",),
    ),
}


def bindings(topics: Topics) -> list[AclBinding]:
    """Every permission of every role; what is not here is denied."""
    names, found = topics.by_role(), []
    for role, access in ACCESS.items():
        for operation, roles in (
            (AclOperation.READ, access.reads),
            (AclOperation.WRITE, access.writes),
            (AclOperation.DESCRIBE_CONFIGS, access.looks_up),
        ):
            found += [allowed(role, ResourceType.TOPIC, names[topic], operation) for topic in roles]
        found += [
            allowed(role, ResourceType.GROUP, group, AclOperation.READ, prefix=True) for group in access.groups
        ]
        for operation in (AclOperation.DESCRIBE, AclOperation.WRITE) if access.transactions else ():
            found += [
                allowed(role, ResourceType.TRANSACTIONAL_ID, begin, operation, prefix=True)
                for begin in access.transactions
            ]
    return found


def allowed(
    role: str, kind: ResourceType, name: str, operation: AclOperation, *, prefix: bool = False
) -> AclBinding:
    """One permission, from any host."""
    pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
    return AclBinding(kind, name, pattern, f"User:{role}", "*", operation, AclPermissionType.ALLOW)


def grant(bootstrap: str, topics: Topics, passwords: Mapping[str, str]) -> None:
    """Make each role's user, with its password, and give the roles what they need; twice is harmless.

    Args:
        bootstrap: broker addresses.
        topics: whose names the permissions are for.
        passwords: by role; one that changed is changed.

    Raises:
        ServiceUnavailable: the broker does not answer, or refuses.
    """
    admin = admin_client(bootstrap)
    upserts: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(
            role, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS), passwords[role].encode()
        )
        for role in ACCESS
    ]
    for role, future in admin.alter_user_scram_credentials(upserts).items():
        with translating(f"Kafka's user {role} cannot be made"):
            future.result(GRANT_S)
    for binding, future in admin.create_acls(bindings(topics)).items():
        with translating(f"a permission of {binding.principal} cannot be given"):
            future.result(GRANT_S)

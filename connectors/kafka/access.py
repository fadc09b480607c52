"""What each role may do: the one table that the embedded brokers and a cluster elsewhere are set up by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)
from msgspec import Struct

from connectors.kafka.admin import AdminClient, admin_client
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
        sees: what the names of groups begin with whose members and offsets it sees, and cannot move.
        looks_up: roles of topics whose configuration it checks.
        watches: whether it sees what there is, of all topics and groups, and reads nothing of it.
    """

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    transactions: tuple[str, ...] = ()
    sees: tuple[str, ...] = ()
    looks_up: tuple[str, ...] = ()
    watches: bool = False


#: What the gateways' group is called unless a setting says otherwise; their transactions begin with it too.
GROUP = "gateway"
#: Our readers of a partition's past name this group and never join it.
READER = "ultrathink-"
ACCESS: dict[str, Access] = {
    "gateway": Access(
        reads=("ticks", "decisions", "dead_letters", "snapshots", "fills", "control", "scratch"),
        # To the control topic: what halts the desk, and the limits of a first start.
        writes=("decisions", "dead_letters", "snapshots", "orders", "control", "scratch", "starts"),
        groups=(GROUP, READER),
        transactions=(GROUP,),
        looks_up=("ticks",),
    ),
    "broker": Access(reads=("orders", "fills", "control"), writes=("fills",), groups=("paper-broker", READER)),
    "forensics": Access(
        reads=(
            "decisions",
            "orders",
            "fills",
            "dead_letters",
            "control",
            "starts",
            "releases",
            "experiments",
            "checkpoints",
        ),
        # The exporters' journal of releases, and what it signs.
        writes=("releases", "checkpoints"),
        groups=(READER,),
    ),
    # Ticks to archive, and to make decisions again.
    "data": Access(reads=("ticks",), groups=(READER,), looks_up=("ticks",)),
    # To the control topic: what puts the champion back where a challenger does harm.
    "experiments": Access(
        reads=("ticks", "decisions", "control", "starts"),
        writes=("control", "experiments"),
        groups=(READER,),
        looks_up=("ticks",),
    ),
    "metrics": Access(watches=True),
    "sender": Access(writes=("ticks",), groups=(READER,)),
    "reader": Access(reads=("ticks", "decisions", "dead_letters"), groups=(READER,)),
    # Stops the desk, sets limits, sends dead letters again, and looks at everything.
    OPERATOR: Access(
        reads=(
            "ticks",
            "decisions",
            "dead_letters",
            "snapshots",
            "orders",
            "fills",
            "control",
            "starts",
            "releases",
            "experiments",
            "checkpoints",
        ),
        writes=("control", "ticks", "dead_letters"),
        # Not the gateway's: who may read with a group may also move its offsets.
        groups=(READER,),
        transactions=("dlq-replay-",),
        # How far the gateways have come, before a log that was made anew is bound to what they decided.
        sees=(GROUP,),
        looks_up=("ticks",),
    ),
}


def bindings(topics: Topics, group: str = GROUP) -> list[AclBinding]:
    """Every permission of every role; what is not here is denied. `group` is the gateways'."""
    names, found = topics.by_role(), []
    for role, access in ACCESS.items():
        for operation, roles in (
            (AclOperation.READ, access.reads),
            (AclOperation.WRITE, access.writes),
            (AclOperation.DESCRIBE_CONFIGS, access.looks_up),
        ):
            found += [allowed(role, ResourceType.TOPIC, names[topic], operation) for topic in roles]
        found += [
            allowed(role, ResourceType.GROUP, renamed(begin, group), operation, prefix=True)
            for operation, begins in ((AclOperation.READ, access.groups), (AclOperation.DESCRIBE, access.sees))
            for begin in begins
        ]
        if access.watches:
            everything = (ResourceType.TOPIC, ResourceType.GROUP)
            found += [allowed(role, kind, "*", AclOperation.DESCRIBE) for kind in everything]
        for operation in (AclOperation.DESCRIBE, AclOperation.WRITE) if access.transactions else ():
            found += [
                allowed(role, ResourceType.TRANSACTIONAL_ID, renamed(begin, group), operation, prefix=True)
                for begin in access.transactions
            ]
    return found


def renamed(begin: str, group: str) -> str:
    """What names begin with, where the gateways' group has another name."""
    return group if begin == GROUP else begin


def allowed(
    role: str, kind: ResourceType, name: str, operation: AclOperation, *, prefix: bool = False
) -> AclBinding:
    """One permission, from any host."""
    pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
    return AclBinding(kind, name, pattern, f"User:{role}", "*", operation, AclPermissionType.ALLOW)


def grant(bootstrap: str, topics: Topics, passwords: Mapping[str, str], group: str = GROUP) -> None:
    """Make each role's user, with its password, and give the roles what they need and no more; twice is harmless.

    Args:
        bootstrap: broker addresses.
        topics: whose names the permissions are for.
        passwords: by role; one that changed is changed.
        group: of the gateways.

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
    for binding, future in admin.create_acls(bindings(topics, group)).items():
        with translating(f"a permission of {binding.principal} cannot be given"):
            future.result(GRANT_S)
    take_away(admin, topics, group)


def take_away(admin: AdminClient, topics: Topics, group: str) -> None:
    """What our roles may do with this desk's own things by an earlier table and not by this one.

    Another desk on the cluster has topics of other names, and what somebody denies is his affair. Raises
    ServiceUnavailable.
    """
    # Its stub asks for texts where None is any.
    any_text: Any = None
    given = AclBindingFilter(
        ResourceType.ANY, any_text, ResourcePatternType.ANY, any_text, any_text, AclOperation.ANY,
        AclPermissionType.ALLOW,
    )  # fmt: skip
    with translating("the permissions cannot be read"):
        found = admin.describe_acls(given).result(GRANT_S)
    wanted = bindings(topics, group)
    ours, principals = {(b.restype, b.name) for b in wanted}, {b.principal for b in wanted}
    stale = [
        AclBindingFilter(
            b.restype, b.name, b.resource_pattern_type, b.principal, b.host, b.operation, b.permission_type
        )
        for b in found
        if b.permission_type is AclPermissionType.ALLOW
        and b.principal in principals
        and (b.restype, b.name) in ours
        and b not in wanted
    ]
    for future in (admin.delete_acls(stale) if stale else {}).values():
        with translating("a permission of before cannot be taken away"):
            future.result(GRANT_S)

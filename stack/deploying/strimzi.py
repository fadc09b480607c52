"""Topics and users as Strimzi takes them, from the tables that the embedded brokers and compose are set up by."""

from __future__ import annotations

from typing import Any

from connectors.kafka.access import GROUP, bindings
from connectors.kafka.topics import KEPT, TOPICS, UNPARTITIONED

API, CLUSTER = "kafka.strimzi.io/v1", "desk"
#: Of each topic of ticks and of what follows from them; as many gateways at most have something to do.
PARTITIONS, REPLICAS = 12, 3
TYPES = {"TOPIC": "topic", "GROUP": "group", "TRANSACTIONAL_ID": "transactionalId"}
PATTERNS = {"LITERAL": "literal", "PREFIXED": "prefix"}
OPERATIONS = {
    "READ": "Read", "WRITE": "Write", "DESCRIBE": "Describe", "DESCRIBE_CONFIGS": "DescribeConfigs",
}  # fmt: skip


def metadata(name: str) -> dict[str, Any]:
    """Of what belongs to the desk's cluster."""
    return {"name": name, "labels": {"strimzi.io/cluster": CLUSTER}}


def topic(role: str, name: str) -> dict[str, Any]:
    """A KafkaTopic."""
    wanted = {
        "partitions": 1 if role in UNPARTITIONED else PARTITIONS,
        "replicas": REPLICAS,
        "config": KEPT.get(role, {}),
    }
    return {
        "apiVersion": API,
        "kind": "KafkaTopic",
        "metadata": metadata(name),
        "spec": {"topicName": name, **wanted},
    }


def users() -> list[dict[str, Any]]:
    """A KafkaUser a role, with what it may do and no more; its operator makes the password."""
    found: dict[str, list[dict[str, Any]]] = {}
    one: Any  # Its stub says that an enumeration may be a text.
    for one in bindings(TOPICS, GROUP):
        resource = {
            "type": TYPES[one.restype.name],
            "name": one.name,
            "patternType": PATTERNS[one.resource_pattern_type.name],
        }
        operation = OPERATIONS[one.operation.name]
        granted = found.setdefault(one.principal.removeprefix("User:"), [])
        known = next((acl for acl in granted if acl["resource"] == resource), None)
        if known is None:
            granted.append({"type": "allow", "resource": resource, "operations": [operation], "host": "*"})
        else:
            known["operations"].append(operation)
    return [
        {
            "apiVersion": API,
            "kind": "KafkaUser",
            "metadata": metadata(role),
            "spec": {
                "authentication": {"type": "scram-sha-512"},
                "authorization": {"type": "simple", "acls": acls},
            },
        }
        for role, acls in found.items()
    ]


def resources() -> list[dict[str, Any]]:
    """All topics, then all users."""
    return [topic(role, name) for role, name in TOPICS.by_role().items()] + users()

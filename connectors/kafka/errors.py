"""What Kafka's client raises, as our errors: one table for every code that it has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from connectors.kafka.client import KafkaError, KafkaException
from connectors.kafka.identity import SECRETS, role, who_is_refused
from trading.errors import ServiceUnavailable

#: How long a broker may take for what is asked of it once: metadata, commits, the end of a partition.
CONTROL_TIMEOUT_S = 10.0


#: Of a commit that came too late, or for nothing: whoever has the partition now reads a little again.
HARMLESS_COMMIT_ERRORS = {
    KafkaError._NO_OFFSET,  # noqa: SLF001 - the name that librdkafka gave it
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.ILLEGAL_GENERATION,
}


class Meaning(Enum):
    """What a code means for whoever asked, with the way out."""

    PASSES = "it passes by itself"
    DOWN = "it does not answer: start it with `ultrathink stack up`"
    DENIED = "give the client the permission, or other credentials"
    ABSENT = "create it, or name another"
    FENCED = "another client has taken this one's place"
    REFUSED = "what was asked, or the broker's configuration, is wrong"
    CLIENT = "the client's own"


_NAMES = {
    Meaning.PASSES: """
        BROKER_NOT_AVAILABLE CONCURRENT_TRANSACTIONS COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE
        ELIGIBLE_LEADERS_NOT_AVAILABLE FENCED_LEADER_EPOCH FETCH_SESSION_ID_NOT_FOUND INVALID_FETCH_SESSION_EPOCH
        KAFKA_STORAGE_ERROR LEADER_NOT_AVAILABLE LISTENER_NOT_FOUND MEMBER_ID_REQUIRED NETWORK_EXCEPTION
        NOT_CONTROLLER NOT_COORDINATOR NOT_ENOUGH_REPLICAS NOT_ENOUGH_REPLICAS_AFTER_APPEND
        NOT_LEADER_FOR_PARTITION OFFSET_NOT_AVAILABLE OPERATION_NOT_ATTEMPTED PREFERRED_LEADER_NOT_AVAILABLE
        REASSIGNMENT_IN_PROGRESS REBALANCE_IN_PROGRESS REBOOTSTRAP_REQUIRED REPLICA_NOT_AVAILABLE
        REQUEST_TIMED_OUT SHARE_SESSION_LIMIT_REACHED SHARE_SESSION_NOT_FOUND INVALID_SHARE_SESSION_EPOCH
        STALE_BROKER_EPOCH STALE_CTRL_EPOCH THROTTLING_QUOTA_EXCEEDED TRANSACTION_ABORTABLE UNKNOWN_LEADER_EPOCH
        UNSTABLE_OFFSET_COMMIT ELECTION_NOT_NEEDED NO_REASSIGNMENT_IN_PROGRESS
        _IN_PROGRESS _ISR_INSUFF _PREV_IN_PROGRESS _QUEUE_FULL _RETRY _TIMED_OUT _TIMED_OUT_QUEUE _MSG_TIMED_OUT
        _WAIT_CACHE _WAIT_COORD _NODE_UPDATE _LOG_TRUNCATION
    """,
    Meaning.DOWN: "_ALL_BROKERS_DOWN _TRANSPORT _RESOLVE _DESTROY_BROKER _UNKNOWN_BROKER",
    Meaning.DENIED: """
        CLUSTER_AUTHORIZATION_FAILED DELEGATION_TOKEN_AUTHORIZATION_FAILED DELEGATION_TOKEN_AUTH_DISABLED
        DELEGATION_TOKEN_EXPIRED DELEGATION_TOKEN_NOT_FOUND DELEGATION_TOKEN_OWNER_MISMATCH
        DELEGATION_TOKEN_REQUEST_NOT_ALLOWED GROUP_AUTHORIZATION_FAILED ILLEGAL_SASL_STATE
        PRINCIPAL_DESERIALIZATION_FAILURE SASL_AUTHENTICATION_FAILED SECURITY_DISABLED TOPIC_AUTHORIZATION_FAILED
        TRANSACTIONAL_ID_AUTHORIZATION_FAILED UNACCEPTABLE_CREDENTIAL UNSUPPORTED_SASL_MECHANISM
        INVALID_PRINCIPAL_TYPE _AUTHENTICATION _SSL
    """,
    Meaning.ABSENT: """
        GROUP_ID_NOT_FOUND LOG_DIR_NOT_FOUND OFFSET_OUT_OF_RANGE RESOURCE_NOT_FOUND UNKNOWN_CONTROLLER_ID
        UNKNOWN_SUBSCRIPTION_ID UNKNOWN_TOPIC_ID UNKNOWN_TOPIC_OR_PART VOTER_NOT_FOUND
        _UNKNOWN_GROUP _UNKNOWN_PARTITION _UNKNOWN_TOPIC _NOENT _NO_OFFSET _AUTO_OFFSET_RESET
    """,
    Meaning.FENCED: """
        FENCED_INSTANCE_ID FENCED_MEMBER_EPOCH FENCED_STATE_EPOCH ILLEGAL_GENERATION INVALID_PRODUCER_EPOCH
        INVALID_PRODUCER_ID_MAPPING PRODUCER_FENCED STALE_MEMBER_EPOCH STREAMS_TOPOLOGY_FENCED
        TRANSACTION_COORDINATOR_FENCED UNKNOWN_MEMBER_ID UNKNOWN_PRODUCER_ID UNRELEASED_INSTANCE_ID
        _FENCED _ASSIGNMENT_LOST _MAX_POLL_EXCEEDED
    """,
    Meaning.REFUSED: """
        DUPLICATE_RESOURCE DUPLICATE_SEQUENCE_NUMBER DUPLICATE_VOTER FEATURE_UPDATE_FAILED GROUP_MAX_SIZE_REACHED
        GROUP_SUBSCRIBED_TO_TOPIC INCONSISTENT_GROUP_PROTOCOL INCONSISTENT_TOPIC_ID INCONSISTENT_VOTER_SET
        INVALID_COMMIT_OFFSET_SIZE INVALID_CONFIG INVALID_GROUP_ID INVALID_MSG INVALID_MSG_SIZE INVALID_PARTITIONS
        INVALID_RECORD INVALID_RECORD_STATE INVALID_REGISTRATION INVALID_REGULAR_EXPRESSION
        INVALID_REPLICATION_FACTOR INVALID_REPLICA_ASSIGNMENT INVALID_REQUEST INVALID_REQUIRED_ACKS
        INVALID_SESSION_TIMEOUT INVALID_TIMESTAMP INVALID_TRANSACTION_TIMEOUT INVALID_TXN_STATE
        INVALID_UPDATE_VERSION INVALID_VOTER_KEY MISMATCHED_ENDPOINT_TYPE MSG_SIZE_TOO_LARGE NON_EMPTY_GROUP
        OFFSET_METADATA_TOO_LARGE OUT_OF_ORDER_SEQUENCE_NUMBER POLICY_VIOLATION RECORD_LIST_TOO_LARGE
        STREAMS_INVALID_TOPOLOGY STREAMS_INVALID_TOPOLOGY_EPOCH TELEMETRY_TOO_LARGE TOPIC_ALREADY_EXISTS
        TOPIC_DELETION_DISABLED TOPIC_EXCEPTION UNKNOWN UNSUPPORTED_ASSIGNOR UNSUPPORTED_COMPRESSION_TYPE
        UNSUPPORTED_ENDPOINT_TYPE UNSUPPORTED_FOR_MESSAGE_FORMAT UNSUPPORTED_VERSION
        _UNKNOWN_PROTOCOL _UNSUPPORTED_FEATURE
    """,
    Meaning.CLIENT: """
        NO_ERROR _APPLICATION _ASSIGN_PARTITIONS _BAD_COMPRESSION _BAD_MSG _CONFLICT _CRIT_SYS_RESOURCE _DESTROY
        _EXISTING_SUBSCRIPTION _FAIL _FATAL _FS _GAPLESS_GUARANTEE _INCONSISTENT _INTR _INVALID_ARG
        _INVALID_DIFFERENT_RECORD _INVALID_TYPE _KEY_DESERIALIZATION _KEY_SERIALIZATION _NOOP _NOT_CONFIGURED
        _NOT_IMPLEMENTED _OUTDATED _PARTIAL _PARTITION_EOF _PURGE_INFLIGHT _PURGE_QUEUE _READ_ONLY
        _REVOKE_PARTITIONS _STATE _UNDERFLOW _VALUE_DESERIALIZATION _VALUE_SERIALIZATION
    """,
}
#: The code of an error -> what it means. A code of an older client that is gone is left out.
MEANINGS: dict[int, Meaning] = {
    getattr(KafkaError, name): meaning
    for meaning, names in _NAMES.items()
    for name in names.split()
    if hasattr(KafkaError, name)
}


def meaning(error: KafkaError) -> Meaning:
    """A code of a newer client counts as the broker's refusal."""
    return MEANINGS.get(error.code(), Meaning.REFUSED)


def passes(error: KafkaError) -> bool:
    """Whether the same may succeed in a moment."""
    return bool(error.retriable()) or meaning(error) in {Meaning.PASSES, Meaning.DOWN}


def is_denied(error: KafkaError) -> bool:
    """Whether a permission or a credential is missing."""
    return meaning(error) is Meaning.DENIED


def translated(error: KafkaException, what: str) -> ServiceUnavailable:
    """Our error: what could not be done, what Kafka said, and the way out."""
    said: KafkaError = error.args[0]
    return ServiceUnavailable(f"{what} ({said.str()}){way_out(meaning(said))}")


def way_out(found: Meaning) -> str:
    """What to do about it, after a semicolon; "" where there is nothing to do."""
    if found in {Meaning.PASSES, Meaning.DOWN} and (refused := who_is_refused()):
        return f"; {refused}"
    if found in {Meaning.PASSES, Meaning.CLIENT}:
        return ""
    if found is Meaning.DENIED and os.environ.get(SECRETS):
        return f"; give the user {role()!r} the permission, or other credentials (`ultrathink kafka roles`)"
    anonymous = found is Meaning.DOWN and not os.environ.get(SECRETS)
    return f"; {found.value}" + (f", or set {SECRETS} where it asks for a password" if anonymous else "")


def denied(bootstrap: str, topic: str) -> ServiceUnavailable:
    """What is said of a topic that this process's user may not even know of."""
    return ServiceUnavailable(f"Kafka at {bootstrap} does not let this client use {topic}{way_out(Meaning.DENIED)}")


@contextmanager
def translating(what: str) -> Iterator[None]:
    """Raise ServiceUnavailable for whatever Kafka's client raises within, and where it says nothing in time."""
    try:
        yield
    except KafkaException as error:
        raise translated(error, what) from error
    except TimeoutError as error:
        raise ServiceUnavailable(f"{what} (no answer in time){way_out(Meaning.DOWN)}") from error


def silent(bootstrap: str) -> str:
    """What is said of a cluster that cannot be asked."""
    return f"Kafka at {bootstrap} cannot be used"

"""Consumed messages as values."""

from __future__ import annotations

from typing import Any

from connectors.kafka.client import TIMESTAMP_NOT_AVAILABLE, KafkaError, Message
from connectors.kafka.errors import is_denied
from trading.errors import ServiceUnavailable
from trading.trace import HEADER

MS = 1_000_000
#: What fits an int64; a timestamp in another unit would not.
LATEST_NS = 2**62


def is_end(message: Message) -> bool:
    """Whether this event says that the partition has no more for now."""
    error = message.error()
    return error is not None and bool(error.code() == KafkaError._PARTITION_EOF)  # noqa: SLF001 - its name


def usable(message: Message) -> bool:
    """A message rather than an event. Raises ServiceUnavailable for an error that does not pass."""
    error = message.error()
    if error is None:
        return True
    if error.fatal() or is_denied(error):
        raise ServiceUnavailable(f"Kafka: {error.str()}")
    return False


def partition_of(message: Message) -> int:
    """The partition of a consumed message."""
    return int(message.partition() or 0)


def offset_of(message: Message) -> int:
    """The offset of a consumed message."""
    return int(message.offset() or 0)


def sent_ns(message: Message, received_ns: int) -> int:
    """When the producer sent it, to the millisecond; the receive time where that is unknown."""
    kind, time_ms = message.timestamp()
    return received_ns if kind == TIMESTAMP_NOT_AVAILABLE else min(int(time_ms) * MS, LATEST_NS)


def traceparent(message: Message) -> bytes | None:
    """The W3C header, where the producer sent one."""
    headers: Any = message.headers()
    return next((as_bytes(value) for name, value in headers if name == HEADER), None) if headers else None


def as_bytes(value: Any) -> bytes | None:
    """Kafka's keys and values are bytes or absent."""
    return value if value is None or isinstance(value, bytes) else str(value).encode()

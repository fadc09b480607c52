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
#: Header of a tick: wall time of sending, ns since 1970, in decimal digits.
SENT_HEADER, MOST_DIGITS = "sent-ns", 19


#: What was to be read is not there any more, and will not come back by waiting.
GONE = frozenset(
    {
        KafkaError.OFFSET_OUT_OF_RANGE,
        KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - their names
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)


def is_end(message: Message) -> bool:
    """Whether this event says that the partition has no more for now."""
    error = message.error()
    return error is not None and bool(error.code() == KafkaError._PARTITION_EOF)  # noqa: SLF001 - its name


def usable(message: Message) -> bool:
    """A message rather than an event. Raises ServiceUnavailable for an error that does not pass."""
    error = message.error()
    if error is None:
        return True
    if error.fatal() or is_denied(error) or error.code() in GONE:
        raise ServiceUnavailable(f"Kafka: {message.topic() or 'a topic'}: {error.str()}")
    return False


def partition_of(message: Message) -> int:
    """The partition of a consumed message."""
    return int(message.partition() or 0)


def offset_of(message: Message) -> int:
    """The offset of a consumed message."""
    return int(message.offset() or 0)


def appended_ns(message: Message, received_ns: int) -> int:
    """When the broker took it, to the millisecond; the receive time where that is unknown.

    By the broker's own clock where the topic is kept so (`message.timestamp.type=LogAppendTime`, which the gateway
    asks of its ticks): whose clock it is must not be the producer's choice.
    """
    kind, time_ms = message.timestamp()
    return received_ns if kind == TIMESTAMP_NOT_AVAILABLE else min(int(time_ms) * MS, LATEST_NS)


def origin(message: Message, appended_ns: int) -> tuple[int, bytes | None]:
    """When the producer says that it sent it, never later than the broker had it, and its W3C traceparent.

    Without a header of the sending time it counts as sent when the broker took it.
    """
    headers: Any = message.headers()
    sent, trace = appended_ns, None
    for name, value in headers or ():
        if name == SENT_HEADER:
            sent = told_ns(as_bytes(value), appended_ns)
        elif name == HEADER:
            trace = as_bytes(value)
    return sent, trace


def told_ns(value: bytes | None, appended_ns: int) -> int:
    """The time in a header; the broker's where it is none, or later than that."""
    if value is None or len(value) > MOST_DIGITS or not value.isdigit():
        return appended_ns
    # The broker tells milliseconds.
    return min(int(value), appended_ns + MS)


def sent_header(now_ns: int) -> tuple[str, str | bytes | None]:
    """What a producer of ticks adds to a message, so that its budget counts from here."""
    return SENT_HEADER, b"%d" % now_ns


def as_bytes(value: Any) -> bytes | None:
    """Kafka's keys and values are bytes or absent."""
    return value if value is None or isinstance(value, bytes) else str(value).encode()


def unread(messages: list[Message], wanted: dict[int, int], partition: int) -> list[Message]:
    """The messages that were not read before, noted as read.

    After a seek librdkafka was seen, once in some hundred restarts, to deliver the same messages again.
    """
    found, following = [], wanted[partition]
    for message in messages:
        offset = offset_of(message)
        if offset >= following:
            found.append(message)
            following = offset + 1
    wanted[partition] = following
    return found

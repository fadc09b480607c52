"""What is no tick, with where it lay and why: bounded, and readable as text whatever its bytes are."""

from __future__ import annotations

from msgspec import Struct


class DeadLetter(Struct, frozen=True):
    """A message that is no tick: where it lay, why it was refused, and its bytes as text."""

    topic: str
    partition: int
    offset: int
    reason: str
    key: str | None
    payload: str
    payload_bytes: int
    trace_id: str = ""


MAX_PAYLOAD_BYTES = 2048
MAX_KEY_BYTES = 256


def dead_letter(
    topic: str,
    partition: int,
    offset: int,
    reason: str,
    key: bytes | None,
    payload: bytes | None,
    trace_id: str = "",
) -> DeadLetter:
    """Keep where it lay, why it was refused, and the beginning of its key and payload."""
    content = payload or b""
    return DeadLetter(
        topic=topic,
        partition=partition,
        offset=offset,
        reason=reason,
        key=None if key is None else key[:MAX_KEY_BYTES].decode("utf-8", "backslashreplace"),
        payload=content[:MAX_PAYLOAD_BYTES].decode("utf-8", "backslashreplace"),
        payload_bytes=len(content),
        trace_id=trace_id,
    )

"""A consumed tick's message as a rebuild takes it."""

from __future__ import annotations

from connectors.kafka.client import Message
from connectors.kafka.messages import appended_ns, as_bytes, offset_of, origin
from trading.state.log import LoggedMessage


def logged(message: Message, now_ns: int) -> LoggedMessage:
    """With its times: by its producer, and by the broker; `now_ns` where neither said one."""
    appended = appended_ns(message, now_ns)
    sent, trace = origin(message, appended)
    key, value = as_bytes(message.key()), as_bytes(message.value())
    return LoggedMessage(offset_of(message), sent, key, value, trace, appended)

"""Decisions as they lie in Kafka: the last of them, and those that come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from msgspec import Struct

from connectors.kafka.client import TopicPartition
from connectors.kafka.cluster import require
from connectors.kafka.messages import as_bytes, usable
from connectors.kafka.reading import FOLLOWING_MS, consume_ready, reader
from connectors.kafka.watermarks import bounds
from stack.workflows.latest import Latest, latest_records
from trading.decision.schema import Action, Decision, Reason
from trading.decision.wire import decode_decision
from trading.errors import BadRecord, ConfigurationError
from trading.risk.verdict import Outcome

#: Messages that are asked for at once.
CHUNK = 500
WAIT_S = 0.2


class Wanted(Struct, frozen=True):
    """Which decisions; "" takes any.

    Attributes:
        symbol, arm: as they stand in the decision.
        action: buy, sell or hold.
        reason: as `Reason` names it, or a rule that denied.
    """

    symbol: str = ""
    action: str = ""
    reason: str = ""
    arm: str = ""

    def takes(self, one: Decision) -> bool:
        """Whether a decision is one of them."""
        return (
            self.symbol in {"", one.symbol}
            and self.action in {"", one.action.value}
            and self.arm in {"", one.variant}
            and (not self.reason or self.reason == one.reason.value or self.reason in denied_by(one))
        )


def check(wanted: Wanted, rules: tuple[str, ...]) -> None:
    """Raise ConfigurationError for an action, a reason or a rule that there is not."""
    for what, value, known in (
        ("--action", wanted.action, tuple(Action)),
        ("--reason", wanted.reason, (*Reason, *rules)),
    ):
        if value and value not in known:
            raise ConfigurationError(f"{what} {value!r}: expected one of {', '.join(known)}")


def denied_by(one: Decision) -> tuple[str, ...]:
    """The rules behind a denial; empty for another decision."""
    verdict = one.verdict
    return verdict.broken if verdict is not None and verdict.outcome is Outcome.DENY else ()


def latest(bootstrap: str, topic: str, count: int, wanted: Wanted) -> Latest[Decision]:
    """The last so many of a topic, of all its partitions, in the order in which they were decided.

    Raises:
        ConfigurationError: there is no such topic; ServiceUnavailable: Kafka does not answer.
    """
    return latest_records(bootstrap, topic, count, decode_decision, wanted.takes, lambda one: one.decided_at_ns)


def follow(bootstrap: str, topic: str, wanted: Wanted) -> Iterator[Decision | None]:
    """Those that are decided from now on, as they come, for ever; None for a message that holds none. Raises as
    `latest`.
    """
    places = [TopicPartition(topic, p, bounds(bootstrap, topic, p)[1]) for p in require(bootstrap, topic)]
    with closing(reader(bootstrap, waits_ms=FOLLOWING_MS)) as consumer:
        consumer.assign(places)
        while True:
            for message in consume_ready(consumer, CHUNK, WAIT_S):
                if not usable(message):
                    continue
                one = decoded(message)
                if one is None or wanted.takes(one):
                    yield one


def decoded(message: object) -> Decision | None:
    """A message's decision; None where it holds none of this version."""
    try:
        return decode_decision(as_bytes(message.value()) or b"")  # type: ignore[attr-defined]
    except BadRecord:
        return None

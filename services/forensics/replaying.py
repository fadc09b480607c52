"""Decisions of a trail made again: ticks from their log, everything else from the trail itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from msgspec import Struct

from services.forensics.replay_log import DecisionStream, TrailEvents, logs_of
from services.forensics.settings import ForensicsSettings
from services.forensics.store.reading import TrailReader
from trading.decision.wire import decode_decision
from trading.errors import BadRecord, ConfigurationError
from trading.replay.replayer import Published, Replayed, Replayer
from trading.risk.limits import LimitSet
from trading.state.log import LoggedMessage
from trading.state.partition import PartitionState

MOST = 2**62


class TickLog(Protocol):
    """Where ticks are read from; may raise ServiceUnavailable."""

    def partitions(self) -> int:
        """How many there are."""

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset that is held, and the one after the last."""

    def read(self, partition: int, start: int, stop: int) -> Iterator[Sequence[LoggedMessage]]:
        """Messages from `start` to before `stop`, in order, some at a time."""


class Span(Struct, frozen=True):
    """Decisions of a partition about the ticks `first` to `last`, both inclusive."""

    partition: int
    first: int = 0
    last: int = MOST


class SpanReplay(Struct):
    """What became of a span.

    Attributes:
        partition: of the ticks.
        decisions: how many were made again.
        different: those that are not the same.
        before: how many were only taken, to get to the state before the first.
    """

    partition: int
    decisions: int = 0
    different: list[Replayed] = []
    before: int = 0


def replay_span(
    reader: TrailReader,
    ticks: TickLog,
    settings: ForensicsSettings,
    span: Span,
    advance: Callable[[int, int], None] = lambda *_: None,
) -> SpanReplay:
    """Make the decisions of a span again, and compare.

    Args:
        reader: of the trail.
        ticks: their log.
        settings: topics, and whose limits hold.
        span: of one partition.
        advance: told how many ticks were taken, and of how many.

    Raises:
        ConfigurationError: there are no such decisions, or the ticks before them are gone.
        ServiceUnavailable: a server does not answer.
    """
    logs = logs_of(reader, span.partition, settings.roles())
    if "decisions" not in logs:
        raise ConfigurationError(f"no decisions of partition {span.partition} are on record")
    base = LimitSet(None, settings.account, settings.strategy, ticks.partitions())
    events = TrailEvents(reader, settings.ticks_topic, span.partition, logs, base)
    replayer = Replayer(settings.ticks_topic, span.partition, PartitionState(base), events, settings.rebalance_band)
    decided = DecisionStream(reader, logs["decisions"], settings.ticks_topic)
    done = SpanReplay(span.partition)
    begin, (held, end) = decided.first(), ticks.bounds(span.partition)
    if begin is None:
        return done
    if held > begin:
        raise ConfigurationError(
            f"{settings.ticks_topic}[{span.partition}] begins at offset {held}, and its decisions at {begin}: what "
            "a replay begins with is gone"
        )
    stop = min(end, span.last + 1)
    for messages in ticks.read(span.partition, begin, stop):
        payloads = decided.up_to(messages[-1].offset)
        earlier = [m for m in messages if m.offset < span.first]
        replayer.advance(earlier, payloads)
        done.before += sum(m.offset in payloads for m in earlier)
        told = {offset: published(payload) for offset, payload in payloads.items() if offset >= span.first}
        for replayed in replayer.run(messages[len(earlier) :], told):
            done.decisions += 1
            if replayed.difference is not None:
                done.different.append(replayed)
        advance(messages[-1].offset + 1 - begin, stop - begin)
    return done


def published(payload: bytes) -> Published:
    """A decision as it was published. Raises ConfigurationError for one that cannot be read."""
    try:
        return Published(payload, decode_decision(payload))
    except BadRecord as error:
        raise ConfigurationError(f"a decision on record is none of this version: {error}") from error

"""Decisions of a trail made again: ticks from their log, everything else from the trail itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from msgspec import Struct

from services.forensics.gateway_starts import DecidedWith, decided_with, refuse_other_ticks, starts_of
from services.forensics.rebindings import rebindings_of
from services.forensics.replay_log import DecisionStream, TrailEvents, logs_of
from services.forensics.settings import ForensicsSettings
from services.forensics.store.reading import TrailReader
from trading.decision.schema import Decision
from trading.errors import ConfigurationError
from trading.replay.published import Published, published
from trading.replay.replayer import Replayed, Replayer
from trading.risk.limits import LimitSet
from trading.state.log import LoggedMessage
from trading.state.partition import PartitionState
from trading.state.rebinding import Rebinding

MOST = 2**62


class TickLog(Protocol):
    """Where ticks are read from; may raise ServiceUnavailable."""

    def topic_id(self) -> str:
        """Of the topic that is there now."""

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
        said: what the reader should know of the settings that it was replayed with; "" for nothing.
    """

    partition: int
    decisions: int = 0
    different: list[Replayed] = []
    before: int = 0
    said: str = ""


def replay_span(
    reader: TrailReader,
    ticks: TickLog,
    settings: ForensicsSettings,
    span: Span,
    advance: Callable[[int, int], None] = lambda *_: None,
    rebinding: Rebinding | None = None,
) -> SpanReplay:
    """Make the decisions of a span again, and compare.

    Args:
        reader: of the trail.
        ticks: their log.
        settings: topics, and whose limits hold.
        span: of one partition.
        advance: told how many ticks were taken, and of how many.
        rebinding: one that is believed beside those on record.

    Raises:
        ConfigurationError: there are no such decisions, or the ticks before them are gone.
        ServiceUnavailable: a server does not answer.
    """
    begun = begin_of(reader, ticks, settings, span.partition, rebinding)
    replayer, decided = begun.replayer, begun.decided
    done = SpanReplay(span.partition, said=begun.decided_with.said)
    begin, (held, end) = decided.first(), ticks.bounds(span.partition)
    if begin is None:
        return done
    refuse_gone(settings, span.partition, held, begin)
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


class Begun(Struct):
    """What decides a partition again from its beginning, its decisions, and with which settings and limits."""

    replayer: Replayer
    decided: DecisionStream
    decided_with: DecidedWith
    base: LimitSet


def begin_of(
    reader: TrailReader,
    ticks: TickLog,
    settings: ForensicsSettings,
    partition: int,
    rebinding: Rebinding | None = None,
) -> Begun:
    """What decides a partition again from its beginning, and its decisions. Raises as `replay_span`."""
    # What is to be bound says nothing of itself: what was decided before does.
    unbound = set() if rebinding is None else set(rebinding.ids.values())
    logs = logs_of(reader, partition, settings.roles(), unbound)
    if "decisions" not in logs:
        raise ConfigurationError(f"no decisions of partition {partition} are on record")
    for kind in ("decisions", "fills"):
        if kind in logs and (last := reader.last_retired(logs[kind].id)) is not None:
            raise ConfigurationError(
                f"{kind} of partition {partition} up to offset {last} are retired: a replay begins with the first"
            )
    believed = [*rebindings_of(reader, settings), *([] if rebinding is None else [rebinding])]
    starts = starts_of(reader, settings, logs["decisions"], believed)
    if starts:
        refuse_other_ticks(settings, starts, ticks.topic_id(), believed)
    told = decided_with(settings, starts)
    # Those of a book before anybody set any: each has its share of what is divided among partitions.
    base = LimitSet(None, told.account, told.strategy, ticks.partitions())
    events = TrailEvents(reader, settings.ticks_topic, partition, logs, base)
    state = PartitionState(base)
    replayer = Replayer(settings.ticks_topic, partition, state, events, told.rebalance_band)
    return Begun(replayer, DecisionStream(reader, logs["decisions"], settings.ticks_topic), told, base)


def refuse_gone(settings: ForensicsSettings, partition: int, held: int, begin: int) -> None:
    """Raise ConfigurationError where the ticks that a replay begins with are gone."""
    if held > begin:
        raise ConfigurationError(
            f"{settings.ticks_topic}[{partition}] begins at offset {held}, and its decisions at {begin}: what a "
            "replay begins with is gone"
        )


class Before(Struct):
    """A decision, its tick's message, what can decide it again from the state before it, and the first limits."""

    replayer: Replayer
    base: LimitSet
    message: LoggedMessage
    published: Published


def state_before(
    reader: TrailReader,
    ticks: TickLog,
    settings: ForensicsSettings,
    partition: int,
    offset: int,
    advance: Callable[[int, int], None] = lambda *_: None,
) -> Before:
    """The state before one decision. Raises as `replay_span`."""
    begun = begin_of(reader, ticks, settings, partition)
    replayer, decided = begun.replayer, begun.decided
    begin, (held, end) = decided.first(), ticks.bounds(partition)
    refuse_gone(settings, partition, held, offset if begin is None else begin)
    start = offset if begin is None else begin
    for messages in ticks.read(partition, start, min(end, offset + 1)):
        payloads = decided.up_to(messages[-1].offset)
        replayer.advance([m for m in messages if m.offset < offset], payloads)
        advance(messages[-1].offset + 1 - start, offset + 1 - start)
        if messages[-1].offset == offset and offset in payloads:
            return Before(replayer, begun.base, messages[-1], published(payloads[offset]))
    raise ConfigurationError(f"no decision about {settings.ticks_topic}-{partition}-{offset} is on record")


def decisions_of(reader: TrailReader, settings: ForensicsSettings, span: Span, most: int) -> list[Decision]:
    """The decisions of a span, the newest `most` of them. Raises ConfigurationError for one that cannot be read."""
    logs = logs_of(reader, span.partition, settings.roles())
    if "decisions" not in logs:
        return []
    decided = DecisionStream(reader, logs["decisions"], settings.ticks_topic)
    decided.up_to(span.first - 1)
    newest = deque(decided.up_to(span.last).values(), maxlen=most)
    return [published(payload).decision for payload in newest]

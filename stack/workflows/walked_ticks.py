"""The ticks that lie in a log now, held against what is on record of each: decided, buried, or neither."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from msgspec import Struct

from services.forensics.replay_log import DecisionStream
from services.forensics.replaying import TickLog
from services.forensics.store.reading import LogRow, TrailReader, to_record
from trading.dead_letters import DeadLetter, dead_letter
from trading.encoding import Records
from trading.errors import BadRecord, ConfigurationError
from trading.intake import admit
from trading.market import Tick
from trading.state.log import LoggedMessage

_letters = Records(DeadLetter)


class Walked(Struct, frozen=True):
    """How many ticks were decided, and the one after the last of them."""

    decided: int = 0
    decided_to: int = 0


def walk(
    reader: TrailReader,
    ticks: TickLog,
    logs: Mapping[str, LogRow],
    place: tuple[str, int],
    advance: Callable[[int, int], None] = lambda *_: None,
) -> Walked:
    """Look at every message up to the last that was decided.

    A gateway that rebuilds its book takes every tick that is one, decided or not: one where nothing was decided
    would make another book, and no replay of decisions would show it.

    Args:
        reader, ticks: the trail, and ticks as they lie there now.
        logs: kind -> log of what was decided, and buried, as far as there is any.
        place: topic and partition of the ticks.
        advance: told how far it is, and of how much.

    Raises ConfigurationError where one that was decided is not there, one that was buried is another, or one lies
    where nothing was decided; and ServiceUnavailable.
    """
    topic, partition = place
    stream = DecisionStream(reader, logs["decisions"], topic)
    buried = buried_of(reader, logs.get("dead_letters"), topic, partition)
    (first, end), done, strange = ticks.bounds(partition), Walked(), -1
    for messages in ticks.read(partition, first, end):
        told = stream.up_to(messages[-1].offset)
        refuse_missing(place, sorted(told.keys() - {m.offset for m in messages}))
        for message in messages:
            if message.offset in told:
                refuse_strange(place, strange)
                done = Walked(done.decided + 1, message.offset + 1)
            elif message.offset in buried:
                refuse_another(place, message, buried[message.offset])
            elif strange < 0 and isinstance(admit(message.payload, message.appended_ns), Tick):
                # Where no later one is decided it only waits for its turn.
                strange = message.offset
        advance(messages[-1].offset + 1 - first, end - first)
        if stream.first() is None:
            break
    if (lacking := stream.first()) is not None:
        raise ConfigurationError(
            f"{topic}[{partition}] ends at {end}: it lacks ticks that were decided, the first at offset {lacking}"
        )
    return done


def buried_of(reader: TrailReader, log: LogRow | None, topic: str, partition: int) -> dict[int, DeadLetter]:
    """Dead letters on record of a partition's messages, by their offsets."""
    found: dict[int, DeadLetter] = {}
    for row in reader.rows("dead_letters", log.id, 0) if log is not None else ():
        with suppress(BadRecord):
            letter = _letters.read(to_record(row).value)
            if (letter.topic, letter.partition) == (topic, partition):
                found[letter.offset] = letter
    return found


def refuse_missing(place: tuple[str, int], lacking: Sequence[int]) -> None:
    """Raise ConfigurationError where ticks that were decided are not there."""
    if lacking:
        topic, partition = place
        raise ConfigurationError(
            f"{topic}[{partition}] lacks {len(lacking):,} ticks that were decided, the first at offset {lacking[0]}"
        )


def refuse_strange(place: tuple[str, int], offset: int) -> None:
    """Raise ConfigurationError where a tick lies, before one that was decided, and none was decided there."""
    if offset >= 0:
        raise ConfigurationError(f"{place[0]}[{place[1]}] has a tick at offset {offset}, where nothing was decided")


def refuse_another(place: tuple[str, int], message: LoggedMessage, known: DeadLetter) -> None:
    """Raise ConfigurationError where another message lies where one was buried, as far as its letter tells."""
    topic, partition = place
    made = dead_letter(topic, partition, message.offset, "", message.key, message.payload)
    if (made.key, made.payload, made.payload_bytes) != (known.key, known.payload, known.payload_bytes):
        raise ConfigurationError(
            f"{topic}[{partition}] has another message at offset {message.offset} than was buried there"
        )

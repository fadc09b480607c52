"""Experiments are commanded over the control topic: what cannot be is refused before it is written.

Two people may speak at once: the log decides, and whoever wrote reads there whether he was heard.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress

from msgspec import Struct

from connectors.kafka.cluster import require
from connectors.kafka.messages import as_bytes
from connectors.kafka.reading import read_to_end
from connectors.kafka.watermarks import Watermarks
from gateway.control import topic as control_topic
from gateway.settings import GatewaySettings
from trading.decision.schema import Decision
from trading.decision.wire import decode_decision
from trading.encoding import encode
from trading.errors import BadRecord, ConfigurationError, ServiceUnavailable
from trading.experiments.definition import ExperimentDefinition
from trading.experiments.register import Experiment, ExperimentRegister, ExperimentWord, read_word, unknown
from trading.spans import span_text

#: Event time by which a share lies ahead of every partition's clock, at least: gateways hear of it meanwhile.
LEAD_NS = 5_000_000_000
#: Of a partition's newest records so many are looked at: markers of transactions lie among them, and rubbish may.
NEWEST = 50
#: What was written is there to be read within so long.
HEARD_S = 10.0


class Boundary(Struct, frozen=True):
    """Where a share begins.

    Attributes:
        block: its number since 1970.
        ahead_ns: event time from the partition that is furthest to its beginning; 0 where nothing was decided yet.
    """

    block: int
    ahead_ns: int


def register_of(settings: GatewaySettings) -> ExperimentRegister:
    """Every experiment that the desk's log knows. Raises ServiceUnavailable."""
    return control_topic.in_force(settings.kafka_bootstrap, settings.control_topic).experiments


def experiment_of(settings: GatewaySettings, name: str) -> Experiment:
    """One of them. Raises ConfigurationError where there is none, ServiceUnavailable."""
    found = register_of(settings).experiments
    if name not in found:
        raise ConfigurationError(unknown(name, found))
    return found[name]


def command(settings: GatewaySettings, word: ExperimentWord, reason: str, by: str) -> Experiment:
    """Command an experiment, and return how it stands after that.

    Raises:
        ConfigurationError: it is refused; nothing is changed.
        ServiceUnavailable: it did not reach the log, or it is not known whether it did.
    """
    bootstrap, topic = settings.kafka_bootstrap, settings.control_topic
    try:
        # Whoever cannot read a command stops what it may be about, and that may be everything.
        read_word(encode(word).decode())
    except BadRecord as error:
        raise ConfigurationError(f"{word.name}: {error}") from None
    if why := register_of(settings).why_not(word):
        raise ConfigurationError(why)
    told = control_topic.told("experiment", encode(word).decode(), reason, by)
    control_topic.send(bootstrap, topic, told)
    deadline = time.monotonic() + HEARD_S
    while True:
        found = register_of(settings)
        one = found.experiments.get(word.name)
        if one is not None and any((s.at_ns, s.by, s.act) == (told.at_ns, told.by, word.act) for s in one.said):
            return one
        if why := found.refused_of(told.at_ns, told.by):
            raise ConfigurationError(f"somebody was quicker: {why}")
        if time.monotonic() > deadline:
            raise ServiceUnavailable(f"the command was written, and {topic} does not show it: look again")
        time.sleep(0.1)


def clocks(settings: GatewaySettings) -> dict[int, int]:
    """Partition -> event time of its newest decision, ns since 1970; without those where nothing was decided.

    Raises ServiceUnavailable.
    """
    return {p: max(d.event_time_ns for d in found) for p, found in newest_decisions(settings).items()}


def newest_decisions(settings: GatewaySettings) -> dict[int, list[Decision]]:
    """Partition -> some of its newest decisions; without those where nothing was decided. ServiceUnavailable."""
    bootstrap, topic = settings.kafka_bootstrap, settings.decisions_topic
    found: dict[int, list[Decision]] = {}
    for partition, (low, end) in bounds_of(settings).items():
        newest = decisions_of(bootstrap, topic, partition, max(low, end - NEWEST), end) if end > low else []
        if newest:
            found[partition] = newest
    return found


def bounds_of(settings: GatewaySettings) -> dict[int, tuple[int, int]]:
    """Partition -> the first offset of the desk's decisions, and the one after the last. ServiceUnavailable."""
    bootstrap, topic = settings.kafka_bootstrap, settings.decisions_topic
    partitions = require(bootstrap, topic)
    with closing(Watermarks(bootstrap)) as watermarks:
        return {p: watermarks.bounds(topic, p) for p in partitions}


def behind_s(settings: GatewaySettings, positions: Mapping[int, int]) -> float | None:
    """Wall time from the first decision that was not taken to the newest, of the partition that is furthest behind.

    None where nobody knows: nothing that can be read lies there, or the log is another one.

    Args:
        settings: of the desk's gateways.
        positions: partition -> the offset of its decisions from where to go on.

    Raises:
        ServiceUnavailable: the log cannot be read.
    """
    bootstrap, topic = settings.kafka_bootstrap, settings.decisions_topic
    furthest_ns = 0
    for partition, (low, end) in bounds_of(settings).items():
        at = max(low, positions.get(partition, low))
        if at > end:
            return None
        left, records = decisions_between(bootstrap, topic, partition, at, min(end, at + NEWEST))
        # The mark that ends a transaction has an offset of its own, and is nothing to be taken.
        if not records and end - at < NEWEST:
            continue
        newest = decisions_of(bootstrap, topic, partition, max(at, end - NEWEST), end)
        if not (left and newest):
            return None
        furthest_ns = max(furthest_ns, newest[-1].decided_at_ns - left[0].decided_at_ns)
    return furthest_ns / 1e9


def decisions_of(bootstrap: str, topic: str, partition: int, start: int, stop: int) -> list[Decision]:
    """The decisions from one offset to before another."""
    return decisions_between(bootstrap, topic, partition, start, stop)[0]


def decisions_between(
    bootstrap: str, topic: str, partition: int, start: int, stop: int
) -> tuple[list[Decision], int]:
    """The decisions from one offset to before another, and how many records lie there: decisions or not."""
    found, records = [], 0
    for messages in read_to_end(bootstrap, topic, partition, start, stop):
        records += len(messages)
        for message in messages:
            with suppress(BadRecord):
                found.append(decode_decision(as_bytes(message.value()) or b""))
    return found, records


def boundary(definition: ExperimentDefinition, times: Mapping[int, int], lead_ns: int = LEAD_NS) -> Boundary:
    """The first block that begins later than every partition's clock by a whole block, and by `lead_ns`."""
    if not times:
        return Boundary(0, 0)
    newest, length = max(times.values()), definition.block_ns
    block = (newest + max(lead_ns, length)) // length + 1
    return Boundary(block, block * length - newest)


def late(definition: ExperimentDefinition, block: int, times: Mapping[int, int]) -> Sequence[int]:
    """Partitions whose clocks had reached a block's beginning by now: of it some ticks were decided before."""
    return sorted(p for p, now_ns in times.items() if now_ns >= block * definition.block_ns)


def next_step(one: Experiment) -> float:
    """The share that comes after the one that it has. Raises ConfigurationError where there is none."""
    rest = [share for share in one.definition.steps if share > one.share]
    if not rest:
        raise ConfigurationError(
            f"{one.definition.name} has a share of {one.share:g}, and no step after it: --to gives it another"
        )
    return rest[0]


def when_text(found: Boundary) -> str:
    """Where a share begins, for a person."""
    if not found.ahead_ns:
        return "from the first tick on"
    return f"from block {found.block} on, {span_text(found.ahead_ns)} of ticks ahead of every partition"

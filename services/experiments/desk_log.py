"""What a desk decided, from Kafka, beside the ticks that it was about."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from connectors.kafka.client import KafkaException, TopicPartition
from connectors.kafka.errors import CONTROL_TIMEOUT_S, translated
from connectors.kafka.logged import logged
from connectors.kafka.messages import as_bytes, is_end, offset_of, partition_of, usable
from connectors.kafka.reading import consume_ready, read_to_end, reader
from connectors.kafka.topics import Topics
from services.experiments.partition_shadow import DecidedTick
from trading.control import read_command
from trading.decision.wire import id_prefix, offset_in
from trading.errors import BadRecord, ConfigurationError, ServiceUnavailable
from trading.events import Command
from trading.intake import admit
from trading.replay.published import Published, published
from trading.risk.limits import LimitSet
from trading.state.applied import limits_of, steers
from trading.state.log import LoggedMessage

AT_ONCE = 1000
SILENT_S = 10.0
GROUP = "ultrathink-experiments"


class Pace(NamedTuple):
    """How a log that goes on is read: brokers have the desk to serve, and are asked no more often than need be.

    Attributes:
        waits_ms: how late a message may be heard of.
        least_bytes: of which a broker tells sooner.
    """

    waits_ms: int
    least_bytes: int


#: Guardrails must see harm within a second; books beside the desk have time.
AT_ONCE_PACE, BESIDE_PACE = Pace(200, 64_000), Pace(500, 512_000)


class KafkaDecisions:
    """Implements DecisionLog, without a group: it moves nobody's offsets."""

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        places: Mapping[int, int],
        pace: Pace,
        decided: Mapping[int, int] | None = None,
        silent_s: float = SILENT_S,
    ) -> None:
        """Begin to read.

        Args:
            bootstrap: broker addresses.
            topics: of decisions, and of the ticks that they are named after.
            places: partition -> offset in the decisions.
            pace: how soon it hears.
            decided: partition -> the last tick of those before; None where nothing was read before.
            silent_s: where nothing has come for so long a broker is asked whether it is there.
        """
        self._topic, self._silent_s = topics.decisions, silent_s
        self._prefix = {partition: id_prefix(topics.ticks, partition) for partition in places}
        self._decided = {**dict.fromkeys(places, -1), **(decided or {})}
        self._ends = dict.fromkeys(places, False)
        self._positions, self._heard_s = dict(places), dict.fromkeys(places, time.monotonic())
        self._consumer = reader(bootstrap, GROUP, waits_ms=pace.waits_ms, least_bytes=pace.least_bytes)
        self._consumer.assign([TopicPartition(topics.decisions, p, at) for p, at in places.items()])

    def poll(self, timeout_s: float) -> Mapping[int, Sequence[Published]]:
        """What has come."""
        return {p: [published(one) for one in found.values()] for p, found in self.payloads(timeout_s).items()}

    def payloads(self, timeout_s: float) -> Mapping[int, Mapping[int, bytes]]:
        """What has come: partition -> offset of the tick -> its decision. Raises ServiceUnavailable."""
        try:
            messages = consume_ready(self._consumer, AT_ONCE, timeout_s)
        except KafkaException as error:
            raise translated(error, f"{self._topic} cannot be read") from error
        payloads: dict[int, dict[int, bytes]] = {}
        for message in messages:
            partition = partition_of(message)
            # An error says nothing of a partition, if it is one's at all.
            if is_end(message) or usable(message):
                self._ends[partition], self._heard_s[partition] = is_end(message), time.monotonic()
            if is_end(message):
                self._positions[partition] = max(self._positions[partition], offset_of(message))
            elif usable(message):
                self._positions[partition] = offset_of(message) + 1
                payload = as_bytes(message.value()) or b""
                # What is no decision of a tick here is somebody else's; of a tick the first one stands.
                with suppress(BadRecord):
                    if (offset := offset_in(payload, self._prefix[partition])) > self._decided[partition]:
                        self._decided[partition] = offset
                        payloads.setdefault(partition, {})[offset] = payload
        self._ask_where_nothing_comes()
        return payloads

    def _ask_where_nothing_comes(self) -> None:
        """A partition that is quiet, and one that is away, say alike. Raises ServiceUnavailable of the latter."""
        now_s = time.monotonic()
        for partition in [p for p, heard_s in self._heard_s.items() if now_s - heard_s > self._silent_s]:
            try:
                self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), self._silent_s / 2)
            except KafkaException as error:
                raise translated(error, f"{self._topic}[{partition}] cannot be read") from error
            self._heard_s[partition] = time.monotonic()

    def position(self, partition: int) -> int:
        """After the last message, or at the end that was told."""
        return self._positions[partition]

    def decided(self, partition: int) -> int:
        """Of the newest decision that was polled."""
        return self._decided[partition]

    def at_end(self, partition: int) -> bool:
        """Whether the last event of a partition said that it has no more for now."""
        return self._ends[partition]

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()


class KafkaDeskLog:
    """Implements DeskLog: decisions beside their ticks."""

    def __init__(self, bootstrap: str, topics: Topics, decisions: KafkaDecisions) -> None:
        """Begin to read.

        Args:
            bootstrap: broker addresses.
            topics: of ticks.
            decisions: closed with this.
        """
        self._bootstrap, self._topics, self._decisions = bootstrap, topics, decisions
        self._ticks: dict[int, TickReader] = {}

    def poll(self, timeout_s: float) -> Mapping[int, Sequence[DecidedTick]]:
        """What has come."""
        return {p: self._joined(p, found) for p, found in self._decisions.payloads(timeout_s).items()}

    def position(self, partition: int) -> int:
        """See KafkaDecisions."""
        return self._decisions.position(partition)

    def decided(self, partition: int) -> int:
        """See KafkaDecisions."""
        return self._decisions.decided(partition)

    def at_end(self, partition: int) -> bool:
        """See KafkaDecisions."""
        return self._decisions.at_end(partition)

    def close(self) -> None:
        """Disconnect."""
        for ticks in self._ticks.values():
            ticks.close()
        self._decisions.close()

    def _joined(self, partition: int, payloads: Mapping[int, bytes]) -> list[DecidedTick]:
        offsets = sorted(payloads)
        ticks = self._ticks.get(partition)
        if ticks is None:
            ticks = TickReader(self._bootstrap, self._topics.ticks, partition, offsets[0])
            self._ticks[partition] = ticks
        found = []
        for message in ticks.up_to(offsets[-1]):
            payload = payloads.get(message.offset)
            if payload is None:
                continue
            tick = admit(message.payload, message.appended_ns)
            if isinstance(tick, str):
                raise ConfigurationError(f"{self._topics.ticks}-{partition}-{message.offset} is no tick: {tick}")
            row = DecidedTick(message, tick, published(payload))
            refuse_another_tick(self._topics.ticks, row)
            found.append(row)
        if len(found) != len(payloads):
            lacking = min(payloads.keys() - {row.message.offset for row in found})
            raise ConfigurationError(
                f"{self._topics.ticks}-{partition}-{lacking} was decided, and is in Kafka no more: begin later "
                "(--since)"
            )
        return found


def refuse_another_tick(topic: str, row: DecidedTick) -> None:
    """Raise ConfigurationError where another tick lies where the decision's did: the topic was made anew since."""
    decision = row.published.decision
    if (row.tick.symbol, row.tick.event_time_ns) != (decision.symbol, decision.event_time_ns):
        raise ConfigurationError(
            f"{decision.decision_id} was decided about {decision.symbol}, and {row.tick.symbol} lies there now: "
            f"{topic} was made anew, begin later (--since)"
        )


class TickReader:
    """One partition's ticks, as far as they are asked for."""

    def __init__(self, bootstrap: str, topic: str, partition: int, begin: int) -> None:
        """Begin to read at an offset."""
        self._what = f"{topic}[{partition}]"
        self._ahead: deque[LoggedMessage] = deque()
        self._read_to = begin - 1
        pace = BESIDE_PACE
        self._consumer = reader(bootstrap, GROUP, waits_ms=pace.waits_ms, least_bytes=pace.least_bytes)
        self._consumer.assign([TopicPartition(topic, partition, begin)])

    def up_to(self, offset: int) -> list[LoggedMessage]:
        """All that were not given yet, up to this offset. Raises ServiceUnavailable where they do not come."""
        quiet_since = time.monotonic()
        while self._read_to < offset:
            try:
                found = consume_ready(self._consumer, AT_ONCE, 0.1)
            except KafkaException as error:
                raise translated(error, f"{self._what} cannot be read") from error
            now_ns = time.time_ns()
            messages = [logged(message, now_ns) for message in found if usable(message)]
            if messages:
                self._ahead.extend(messages)
                self._read_to, quiet_since = messages[-1].offset, time.monotonic()
            elif time.monotonic() - quiet_since > CONTROL_TIMEOUT_S:
                raise ServiceUnavailable(f"{self._what} was decided to {offset}, and read to {self._read_to} only")
        given = []
        while self._ahead and self._ahead[0].offset <= offset:
            given.append(self._ahead.popleft())
        return given

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()


class KafkaCommands:
    """Implements CommandLog over the control topic; people give few commands, and they are kept."""

    def __init__(self, bootstrap: str, topic: str, base: LimitSet) -> None:
        """Nothing is read yet. `base`: whose limits are resolved."""
        self._bootstrap, self._topic, self._base = bootstrap, topic, base
        self._steered: list[tuple[int, Command, LimitSet | None]] = []
        self._read_to = 0

    def commands(self, start: int, stop: int) -> list[tuple[Command, LimitSet | None]]:
        """From `start` to before `stop`. Raises ServiceUnavailable."""
        if stop > self._read_to:
            self._steered += self._read(self._read_to, stop)
            self._read_to = stop
        return [(command, limits) for offset, command, limits in self._steered if start <= offset < stop]

    def _read(self, start: int, stop: int) -> Iterator[tuple[int, Command, LimitSet | None]]:
        for messages in read_to_end(self._bootstrap, self._topic, 0, start, stop):
            for message in messages:
                with suppress(BadRecord):
                    command = read_command(as_bytes(message.value()))
                    if steers(command):
                        yield offset_of(message), command, limits_of(command, self._base)

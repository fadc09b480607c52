"""Makes decisions again: features from ticks, the order from the recorded answer, the verdict from limits and book.

From the recorded answers of the model on everything is a function of the log: what is made again is equal byte
for byte but for what a wall clock writes. Where it is not, the state goes on as was published: one difference
is not told of everything after it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

import numpy as np
from msgspec import Struct, structs

from trading.arrays import ByteArray, FloatArray, Int64Array
from trading.decision import wire
from trading.decision.columns import TickColumns
from trading.decision.decide import decide
from trading.decision.json import DecisionEvidence, DecisionWriter
from trading.decision.policy import DecisionPolicy
from trading.decision.schema import Action, Decision
from trading.decision.wire import decode_decision
from trading.errors import ConfigurationError
from trading.events import ExecutionReport
from trading.experiments.arms import Arm
from trading.features.engine import FeatureRows
from trading.intake import admit
from trading.market import Tick, TickBatch
from trading.replay.comparison import Difference, first_difference, same
from trading.replay.published import Published, answers_of, held_of, quota_of, targets_of
from trading.risk.limits import LimitSet
from trading.risk.trading_state import SEVERITY, TradingState
from trading.state.applied import AppliedOffsets, CommandLog, EventTaker
from trading.state.log import LoggedMessage
from trading.state.partition import PartitionState
from trading.trace import TraceIds

#: Ticks that are decided at once, at most.
MOST_ROWS = 1024


class EventLog(CommandLog, Protocol):
    """Where commands and the broker's reports are read from; may raise ServiceUnavailable."""

    def reports(self, start: int, stop: int) -> list[tuple[int, ExecutionReport]]:
        """Offsets and reports of the partition from `start` to before `stop`."""

    def assigned(self, experiment: str, symbol: str, event_time_ns: int) -> str:
        """The arm that an experiment, NAME@OFFSET, gives a tick's unit to; "" where it gives it to none."""


class Replayed(Struct, frozen=True):
    """What became of one decision; `difference` is None where it is the same."""

    decision_id: str
    offset: int
    difference: Difference | None


class _Key(NamedTuple):
    """What decisions that are made at once have in common."""

    trading_state: TradingState
    arm: Arm
    limits_version: str
    fills_to: int
    control_to: int
    quota: str


class _Row(Struct):
    message: LoggedMessage
    tick: Tick
    published: Published


class Replayer:
    """Decides a partition's ticks again, from a state before the first of them; the state moves."""

    def __init__(
        self,
        ticks_topic: str,
        partition: int,
        state: PartitionState,
        log: EventLog,
        rebalance_band: float,
    ) -> None:
        """Prepare.

        Args:
            ticks_topic, partition: of the ticks.
            state: before the first of them.
            log: where commands and reports are read from.
            rebalance_band: of the gateway that decided.
        """
        self._topic, self._partition, self._state, self._band = ticks_topic, partition, state, rebalance_band
        self._log, self._events = log, EventTaker(log, state)
        self._trace_ids = TraceIds(ticks_topic)
        self._writer = DecisionWriter(ticks_topic, self._trace_ids.prefix)
        self._assumed = True

    @property
    def state(self) -> PartitionState:
        """After what was decided so far."""
        return self._state

    def advance(self, messages: Sequence[LoggedMessage], payloads: Mapping[int, bytes]) -> None:
        """Take ticks and what was decided of them as it was published, without deciding it again: quicker.

        Args:
            messages: in order.
            payloads: tick's offset -> its decision.

        Raises:
            BadRecord: a payload is no decision.
        """
        decided = [(m, payloads[m.offset]) for m in messages if m.offset in payloads]
        for (version, tail), group in groupby(decided, lambda one: taken_in(one[1])):
            mine = list(group)
            self._take(AppliedOffsets(mine[0][0].offset, version.decode(errors="replace"), *wire.applied_in(tail)))
            ticks = [admit(m.payload, m.appended_ns) for m, _ in mine]
            orders = {
                m.offset: (order.quantity, order.reference_price)
                for m, payload in mine
                if not wire.is_hold(payload)
                for order in [wire.decode_order(payload)]
            }
            kept = [(m, tick) for (m, _), tick in zip(mine, ticks, strict=True) if isinstance(tick, Tick)]
            self._state.replay(
                [tick for _, tick in kept], [m.sent_ns for m, _ in kept], [m.offset for m, _ in kept], orders,
                assumed=self._assumed,
            )  # fmt: skip

    def run(self, messages: Sequence[LoggedMessage], published: Mapping[int, Published]) -> Iterator[Replayed]:
        """Decide ticks again.

        Args:
            messages: in order; those that nobody decided are no ticks, or were not decided.
            published: tick's offset -> its decision.
        """
        rows: list[_Row] = []
        for message in messages:
            found = published.get(message.offset)
            if found is None:
                continue
            tick = admit(message.payload, message.appended_ns)
            if isinstance(tick, str):
                yield from self._run(rows)
                rows = []
                yield self._no_tick(message, found, tick)
                continue
            rows.append(_Row(message, tick, found))
        yield from self._run(rows)

    def otherwise(
        self, message: LoggedMessage, published: Published, limits: LimitSet | None, answers: Decision | None
    ) -> Decision:
        """What would have been decided of a tick, from the state before it; the state moves.

        Args:
            message: the tick's.
            published: what was decided.
            limits: that would have held; None takes those that did.
            answers: a decision whose answers of a model count instead; None takes the recorded ones.

        Raises:
            ConfigurationError: the message is no tick.
        """
        tick = admit(message.payload, message.appended_ns)
        if isinstance(tick, str):
            raise ConfigurationError(f"{published.decision.decision_id} is about no tick: {tick}")
        told = published if answers is None else Published(published.payload, answers)
        row = _Row(message, tick, told)
        key = key_of(row)
        self._take(AppliedOffsets(message.offset, key.limits_version, key.fills_to, key.control_to))
        if limits is not None:
            self._state.book.set_limits(limits)
        (payload,) = self._decide(key, [row])
        return decode_decision(payload)

    def _run(self, rows: Sequence[_Row]) -> Iterator[Replayed]:
        for key, group in groupby(rows, key_of):
            mine = list(group)
            for begin in range(0, len(mine), MOST_ROWS):
                yield from self._run_alike(key, mine[begin : begin + MOST_ROWS])

    def _run_alike(self, key: _Key, rows: list[_Row]) -> Iterator[Replayed]:
        """Decisions with a key in common; after a difference the state follows what was published."""
        self._take(AppliedOffsets(rows[0].message.offset, key.limits_version, key.fills_to, key.control_to))
        while rows:
            before = self._copy()
            made = self._decide(key, rows)
            equal = [same(row.published.payload, payload) for row, payload in zip(rows, made, strict=True)]
            until = len(rows) if all(equal) else equal.index(False)
            for row in rows[:until]:
                yield Replayed(row.published.decision.decision_id, row.message.offset, None)
            if until == len(rows):
                return
            wrong = rows[until]
            difference = first_difference(wrong.published.payload, made[until])
            yield Replayed(wrong.published.decision.decision_id, wrong.message.offset, difference)
            self._follow(before, rows[: until + 1])
            rows = rows[until + 1 :]

    def _take(self, applied: AppliedOffsets) -> None:
        """Commands and reports, as the next decision says."""
        taken = self._state.fills_to
        reports = deque(self._log.reports(taken, applied.fills_to) if applied.fills_to > taken else ())
        self._assumed = self._events.take(applied, reports, self._assumed)

    def _decide(self, key: _Key, rows: Sequence[_Row]) -> list[bytes]:
        """The decisions as they are made now, written as a gateway writes them."""
        batch = TickBatch.from_ticks([row.tick for row in rows])
        features = self._state.observe(batch)
        decisions = [row.published.decision for row in rows]
        targets = targets_of(decisions)
        offsets = np.array([row.message.offset for row in rows], np.int64)
        book = self._state.book
        ticks = TickColumns(
            rows=book.rows(batch.symbols), numbers=offsets, event_time_ns=features.event_time_ns,
            quote_time_ns=features.quote_time_ns, sent_ns=np.array([row.message.sent_ns for row in rows], np.int64),
            market=features.market, warm=features.warm, held=held_of(decisions), targets=targets,
        )  # fmt: skip
        policy = DecisionPolicy(book.limits, self._band, self._assumed)
        quota = quota_of(rows[0].published)
        context = policy.context(book.limits, state=SEVERITY[key.trading_state], desk_quota=quota)
        out = decide(book, ticks, context)
        evidence = self._evidence(key, rows, features, (offsets, targets, quota))
        return self._writer.write(evidence, out, (0.0, 0.0, 0.0), 0)

    def _evidence(
        self,
        key: _Key,
        rows: Sequence[_Row],
        features: FeatureRows,
        columns: tuple[Int64Array, FloatArray, float],
    ) -> DecisionEvidence:
        n, (offsets, targets, quota) = len(rows), columns
        answers, answer_rows = answers_of([row.published.decision for row in rows])
        arms, arm_rows = self._arms(key.arm, rows)
        return DecisionEvidence(
            partitions=np.full(n, self._partition, np.int64),
            offsets=offsets,
            symbols=[row.tick.symbol.encode() for row in rows],
            event_time_ns=features.event_time_ns,
            targets=targets,
            features=features.values,
            warm=features.warm,
            answer_rows=answer_rows,
            answers=answers,
            arms=arms,
            arm_rows=arm_rows,
            limits_versions=[self._state.book.limits.version],
            desk_quotas=[quota],
            limits_rows=np.zeros(n, np.int64),
            trading_state=key.trading_state,
            queue_us=np.zeros(n),
            traces=self._traces(rows),
            fills_to=np.full(n, key.fills_to if self._assumed else self._state.fills_to, np.int64),
            control_to=np.full(n, self._state.control_to, np.int64),
        )

    def _arms(self, arm: Arm, rows: Sequence[_Row]) -> tuple[list[Arm], Int64Array]:
        """What the rows were decided by; which arm a unit is given to is found anew."""
        if not arm.experiment:
            return [arm], np.zeros(len(rows), np.int64)
        found = [self._log.assigned(arm.experiment, row.tick.symbol, row.tick.event_time_ns) for row in rows]
        names = sorted(set(found))
        arms = [structs.replace(arm, assigned=name) for name in names]
        return arms, np.array([names.index(name) for name in found], np.int64)

    def _traces(self, rows: Sequence[_Row]) -> ByteArray:
        traces = np.zeros((len(rows), 32), np.uint8)
        for k, row in enumerate(rows):
            if (given := self._trace_ids.given(row.message.traceparent)) is not None:
                traces[k] = np.frombuffer(given, np.uint8)
        return traces

    def _copy(self) -> PartitionState:
        """The state as it is, for a way back."""
        state = self._state
        return PartitionState.of(state.snapshot(self._partition, 0, 0, state.dump_features()))

    def _follow(self, before: PartitionState, rows: Sequence[_Row]) -> None:
        """Go back, and take the ticks again as they were published."""
        state = self._state
        state.features, state.book = before.features, before.book
        state.fills_to, state.control_to = before.fills_to, before.control_to
        orders = {
            row.message.offset: (
                row.published.decision.quantity,
                row.published.decision.reference_price or math.nan,
            )
            for row in rows
            if row.published.decision.action is not Action.HOLD
        }
        messages = [row.message for row in rows]
        state.replay(
            [row.tick for row in rows], [m.sent_ns for m in messages], [m.offset for m in messages], orders,
            assumed=self._assumed,
        )  # fmt: skip

    def _no_tick(self, message: LoggedMessage, published: Published, reason: str) -> Replayed:
        """What was decided is no tick by the rules of this version."""
        difference = Difference("tick", published.decision.symbol, reason, "the message is no tick")
        return Replayed(published.decision.decision_id, message.offset, difference)


def taken_in(payload: bytes) -> tuple[bytes, bytes]:
    """What an encoded decision says of limits, reports and commands."""
    return wire.limits_version_in(payload), wire.applied_tail(payload)


def key_of(row: _Row) -> _Key:
    """What a decision has in common with those that can be made with it."""
    d = row.published.decision
    arm = Arm(d.variant, d.model_name, d.model_version, d.experiment, d.assigned, d.fallback)
    return _Key(d.trading_state, arm, d.limits_version, d.fills_to, d.control_to, repr(quota_of(row.published)))

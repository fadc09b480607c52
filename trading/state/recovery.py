"""Rebuilds a partition's state from its log, without deciding anything again.

Decisions of a partition are published in the order of its ticks, so what is published is the
decided prefix of the log: it holds the orders, where to go on, even where an offset commit came too
late, and before which tick limits and fills were taken. Whatever is in flight at a kill is therefore
neither lost nor repeated. A snapshot only shortens the reading: one that does not fit is left aside.

Pure: what is read comes through `PartitionLog`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from msgspec import Struct

from trading.dead_letters import DeadLetter, dead_letter
from trading.decision import wire
from trading.decision.wire import PublishedOrder
from trading.events import Command, ExecutionReport, PartitionEvents
from trading.intake import Admission
from trading.market import Tick
from trading.risk.limits import LimitSet
from trading.state.codec import UnusableSnapshot, decode_snapshot
from trading.state.partition import PartitionState, Snapshot
from trading.trace import TraceIds

Reports = deque[tuple[int, ExecutionReport]]


class LoggedMessage(Struct, frozen=True):
    """A message of the ticks' partition as it lies in the log; `sent_ns` is the producer's wall time."""

    offset: int
    sent_ns: int
    key: bytes | None
    payload: bytes | None
    traceparent: bytes | None


class PartitionLog(Protocol):
    """What a rebuild reads of one partition. Every method may raise ServiceUnavailable.

    Attributes:
        name: what a snapshot must say that it is of: these very logs, and the group's.
        ticks_topic: where the ticks lie.
        partition: which of its partitions.
    """

    name: str
    ticks_topic: str
    partition: int

    def committed(self) -> int:
        """The group's committed offset of the ticks, 0 for none; an open transaction is waited for."""

    def first_tick(self) -> int:
        """The first offset that the ticks still hold."""

    def snapshots(self) -> Iterator[tuple[str, bytes]]:
        """Where a snapshot lay, and its bytes; the quickest to have first, read as far as they are asked for."""

    def ticks(self, start: int, stop: int) -> Iterator[Sequence[LoggedMessage]]:
        """Messages from `start` to before `stop`, in order, some at a time."""

    def decisions(self, start: int) -> Iterator[Sequence[tuple[int, bytes]]]:
        """Offsets and payloads of decisions from `start` to the end, in order, some at a time."""

    def reports(self, start: int, stop: int) -> list[tuple[int, ExecutionReport]]:
        """Offsets and reports of the broker from `start` to before `stop`; the log must reach that far."""

    def commands(self, start: int, stop: int) -> list[tuple[Command, LimitSet | None]]:
        """Commands that change limits or latches, from `start` to before `stop` of the control topic."""


class AppliedOffsets(Struct, frozen=True):
    """Before the tick at `offset` so much was taken of fills (negative: no broker) and of the control topic."""

    offset: int
    fills_to: int
    control_to: int

    @property
    def assumed(self) -> bool:
        """Whether orders counted as filled."""
        return self.fills_to < 0


class DecisionLog(Struct):
    """What the decisions say of a partition.

    Attributes:
        decided: last decided offset; -1 for none.
        end: of the decisions.
        orders: by offset of their ticks.
        applied: where fills or commands were taken, or the broker came or went, in order.
    """

    decided: int
    end: int
    orders: dict[int, PublishedOrder]
    applied: list[AppliedOffsets]


class Restored(Struct, frozen=True):
    """A partition rebuilt from its log.

    Attributes:
        state: as before the tick at `next_offset`, the first that is not decided.
        decisions_from: end of the decisions' partition.
        letters: dead letters that may be missing.
        ticks: how many were replayed.
        snapshot: where the snapshot lay; "none" without one.
        forgotten: orders of ticks that the log no longer holds.
    """

    state: PartitionState
    next_offset: int
    decisions_from: int
    letters: list[DeadLetter]
    ticks: int = 0
    snapshot: str = "none"
    forgotten: int = 0


class Recovery:
    """One rebuild: `read` what was decided, then `replay` the ticks."""

    def __init__(
        self,
        log: PartitionLog,
        admission: Admission,
        limits: LimitSet,
        set_aside: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare.

        Args:
            log: of the partition.
            admission: what is a tick.
            limits: before anybody set any, and for the account and strategy that trade here.
            set_aside: told why a snapshot does not fit.
        """
        self._log, self._admission, self._limits, self._set_aside = log, admission, limits, set_aside
        self._trace_ids = TraceIds(log.ticks_topic)
        self._state, self._since, self._kind = PartitionState(limits), 0, "none"
        self._first = self._committed = 0
        self._decided = DecisionLog(-1, 0, {}, [])
        self._letters: list[DeadLetter] = []

    def read(self) -> None:
        """Choose a snapshot, and read the decisions since. Raises msgspec.DecodeError for what is no decision."""
        self._committed, self._first = self._log.committed(), self._log.first_tick()
        decisions_from = 0
        for kind, payload in self._log.snapshots():
            snapshot = self._fitting(payload)
            if snapshot is None:
                continue
            # One that begins before the log does would leave a gap.
            if snapshot.offset >= self._first:
                self._state, self._since, self._kind = PartitionState.of(snapshot), snapshot.offset, kind
                decisions_from = snapshot.decisions_from
            break
        self._decided = self._read_decisions(decisions_from)

    def replay(self) -> Restored:
        """Take again what was decided, in its order."""
        decided, state = self._decided, self._state
        following = max(self._first, self._committed, decided.decided + 1)
        applied, reports = deque(decided.applied), self._reports()
        forgotten = self._take_forgotten(applied, reports)
        ticks = self._replay_ticks(applied, reports, following)
        # The same file may mean other limits for the account and strategy that this gateway trades for.
        mine = self._limits.like(state.book.limits.file)
        if mine.version != state.book.limits.version:
            state.book.set_limits(mine)
        return Restored(state, following, decided.end, self._letters, ticks, self._kind, forgotten)

    def _fitting(self, payload: bytes) -> Snapshot | None:
        try:
            snapshot = decode_snapshot(payload, self._log.name, self._log.partition)
        except UnusableSnapshot as error:
            self._set_aside(str(error))
            return None
        if snapshot.offset > self._committed:
            self._set_aside("it is ahead of what is committed")
            return None
        return snapshot

    def _read_decisions(self, start: int) -> DecisionLog:
        """What the decisions of ticks at or after the snapshot say, reading from offset `start`.

        An offset that does not advance is a repeat, or the late word of a gateway that had lost the
        partition: the first decision of a tick stands. Ids of another topic are not ours.
        """
        found = DecisionLog(self._since - 1, start, {}, [])
        prefix = wire.id_prefix(self._log.ticks_topic, self._log.partition)
        tail = b""
        for chunk in self._log.decisions(start):
            for _, payload in chunk:
                offset = wire.offset_in(payload, prefix)
                if offset <= found.decided:
                    continue
                found.decided = offset
                if not wire.is_hold(payload):
                    found.orders[offset] = wire.decode_order(payload)
                if (end := wire.applied_tail(payload)) != tail:
                    tail = end
                    found.applied.append(AppliedOffsets(offset, *wire.applied_in(end)))
            found.end = chunk[-1][0] + 1
        if found.decided < self._since:
            found.decided = -1
        return found

    def _reports(self) -> Reports:
        """The broker's reports that the decisions say were taken."""
        stop = max((one.fills_to for one in self._decided.applied), default=0)
        start = self._state.fills_to
        return deque(self._log.reports(start, stop) if stop > start else [])

    def _take_forgotten(self, applied: deque[AppliedOffsets], reports: Reports) -> int:
        """Orders of ticks that the broker has deleted: their price is the only mark that is left.

        What equity was between them is not known any more, so the drawdown is latched until a human has looked.
        """
        forgotten = {offset: order for offset, order in self._decided.orders.items() if offset < self._first}
        assumed, book = True, self._state.book
        for offset, order in forgotten.items():
            while applied and applied[0].offset <= offset:
                assumed = applied[0].assumed
                self._apply(applied.popleft(), reports)
            times = np.array([[order.event_time_ns] * 3])
            made = np.array([[order.quantity, order.reference_price]])
            mids, numbers = made[:, 1].copy(), np.array([offset])
            book.replay([order.symbol], times, mids, numbers, made, assumed=assumed)
        if forgotten:
            book.latch_drawdown()
        return len(forgotten)

    def _replay_ticks(self, applied: deque[AppliedOffsets], reports: Reports, stop: int) -> int:
        """Feed the ticks up to before `stop`; returns their number, and keeps letters that are not yet safe."""
        count = 0
        orders = {offset: (order.quantity, order.reference_price) for offset, order in self._decided.orders.items()}
        assumed = next((one.assumed for one in reversed(self._decided.applied) if one not in applied), True)
        for messages in self._log.ticks(max(self._since, self._first), stop):
            admitted = self._admission.admit_all(
                [m.payload for m in messages], [m.sent_ns for m in messages], self._state.features.symbols
            )
            kept = [(m, tick) for m, tick in zip(messages, admitted, strict=True) if isinstance(tick, Tick)]
            places = [m.offset for m, _ in kept]
            begin = 0
            while begin < len(kept):
                while applied and applied[0].offset <= places[begin]:
                    assumed = applied[0].assumed
                    self._apply(applied.popleft(), reports)
                end = bisect_left(places, applied[0].offset, begin) if applied else len(kept)
                part = kept[begin:end]
                sent_ns = [m.sent_ns for m, _ in part]
                self._state.replay([tick for _, tick in part], sent_ns, places[begin:end], orders, assumed=assumed)
                begin = end
            count += len(kept)
            self._keep_letters(messages, admitted)
        while applied:
            self._apply(applied.popleft(), reports)
        return count

    def _keep_letters(self, messages: Sequence[LoggedMessage], admitted: Sequence[Tick | str]) -> None:
        """What was no tick at or after the commit may not have been published as such."""
        partition = self._log.partition
        for message, found in zip(messages, admitted, strict=True):
            if isinstance(found, str) and message.offset >= self._committed:
                trace_id = self._trace_ids.of(partition, message.offset, message.traceparent)
                place = (self._log.ticks_topic, partition, message.offset)
                self._letters.append(dead_letter(*place, found, message.key, message.payload, trace_id))

    def _apply(self, applied: AppliedOffsets, reports: Reports) -> None:
        """Take again what was taken before a tick."""
        mine = []
        while reports and reports[0][0] < applied.fills_to:
            mine.append(reports.popleft()[1])
        commands = self._log.commands(self._state.control_to, applied.control_to)
        self._state.take(PartitionEvents(commands, applied.control_to, mine, applied.fills_to))

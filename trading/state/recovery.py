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
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct

from trading.dead_letters import DeadLetter, dead_letter
from trading.decision import wire
from trading.decision.wire import PublishedOrder
from trading.errors import BadRecord, ConfigurationError
from trading.intake import Admission
from trading.market import Tick
from trading.risk.limits import LimitSet
from trading.state.applied import AppliedOffsets, EventTaker, Reports
from trading.state.codec import ForeignSnapshot, UnusableSnapshot, decode_snapshot
from trading.state.log import LoggedMessage, PartitionLog, check_log, is_of_desk
from trading.state.partition import PartitionState, Snapshot
from trading.trace import TraceIds


class DecisionLog(Struct):
    """What the decisions say of a partition.

    Attributes:
        decided: last decided offset; -1 for none.
        end: of the decisions.
        orders: by offset of their ticks.
        applied: where fills or commands were taken, or the broker came or went, in order.
        unreadable: how many records were no decisions.
    """

    decided: int
    end: int
    orders: dict[int, PublishedOrder]
    applied: list[AppliedOffsets]
    unreadable: int = 0


class Restored(Struct, frozen=True):
    """A partition rebuilt from its log.

    Attributes:
        state: as before the tick at `next_offset`, the first that is not decided.
        decisions_from: end of the decisions' partition.
        letters: dead letters that may be missing.
        ticks: how many were replayed.
        snapshot: where the snapshot lay; "none" without one.
        forgotten: orders of ticks that the log no longer holds, or that are none by the rules of this version.
        unreadable: records among the decisions that were none.
        unknown_limits: limits that held at some time, and are not understood.
        lost: messages of the ticks that were deleted before they were decided.
    """

    state: PartitionState
    next_offset: int
    decisions_from: int
    letters: list[DeadLetter]
    ticks: int = 0
    snapshot: str = "none"
    forgotten: int = 0
    unreadable: int = 0
    unknown_limits: int = 0
    lost: int = 0


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
        self._first = self._committed = self._lost = 0
        self._decided = DecisionLog(-1, 0, {}, [])
        self._events = EventTaker(log, self._state)
        self._letters: list[DeadLetter] = []
        self._unadmitted, self._foreign = 0, ""

    def read(self) -> None:
        """Choose a snapshot, and read the decisions since.

        Raises:
            OtherLog: the ticks or the decisions were recreated or cut short since.
        """
        committed = self._log.committed()
        self._first, end = self._log.bounds()
        self._committed = max(0, committed.offset)
        decisions_from = 0
        for kind, payload in self._log.snapshots():
            found = self._fitting(payload)
            if found is None:
                continue
            snapshot, state = found
            # One that begins before the log does would leave a gap.
            if snapshot.offset >= self._first:
                self._state, self._since, self._kind = state, snapshot.offset, kind
                decisions_from = snapshot.decisions_from
            break
        self._decided = self._read_decisions(decisions_from)
        known = max(self._committed, self._decided.decided + 1)
        if known > end:
            # Whoever looks on while a gateway decides: ticks have come since, and were decided.
            end = self._log.bounds()[1]
        check_log(self._log, committed, known, end, self._decided.end, self._foreign)
        if committed.offset >= 0 or self._decided.decided >= 0:
            self._lost = max(0, self._first - known)

    def replay(self) -> Restored:
        """Take again what was decided, in its order."""
        decided, state = self._decided, self._state
        following = max(self._first, self._committed, decided.decided + 1)
        applied, reports = deque(decided.applied), self._reports()
        self._events = EventTaker(self._log, state)
        forgotten = self._take_forgotten(applied, reports)
        ticks = self._replay_ticks(applied, reports, following)
        letters = self._letters
        if letters:
            buried = self._log.buried(letters[0].offset)
            letters = [letter for letter in letters if letter.offset not in buried]
        # The same file may mean other limits for the account and strategy that this gateway trades for.
        mine = self._limits.like(state.book.limits.file)
        if mine.version != state.book.limits.version:
            state.book.set_limits(mine)
        return Restored(
            state, following, decided.end, letters, ticks, self._kind, forgotten + self._unadmitted,
            decided.unreadable, self._events.unknown_limits, self._lost,
        )  # fmt: skip

    def _fitting(self, payload: bytes) -> tuple[Snapshot, PartitionState] | None:
        try:
            snapshot = decode_snapshot(payload, self._log.name, self._log.partition, self._log.was)
            state = PartitionState.of(snapshot)
        except ForeignSnapshot as error:
            self._set_aside(str(error))
            if is_of_desk(error.log, self._log.cluster, self._log.group):
                self._foreign = error.log
            return None
        except (UnusableSnapshot, ConfigurationError, BadRecord, ValueError) as error:
            self._set_aside(str(error))
            return None
        if snapshot.offset > self._committed:
            self._set_aside("it is ahead of what is committed")
            return None
        return snapshot, state

    def _read_decisions(self, start: int) -> DecisionLog:
        """What the decisions of ticks at or after the snapshot say, reading from offset `start`.

        An offset that does not advance is a repeat, or the late word of a gateway that had lost the
        partition: the first decision of a tick stands. Ids of another topic are not ours.
        A record that is no decision is left aside, and counted.
        """
        found = DecisionLog(self._since - 1, start, {}, [])
        prefix = wire.id_prefix(self._log.ticks_topic, self._log.partition)
        before = (b"", b"")
        for chunk in self._log.decisions(start):
            for _, payload in chunk:
                try:
                    offset = wire.offset_in(payload, prefix)
                    if offset <= found.decided:
                        continue
                    found.decided = offset
                    if not wire.is_hold(payload):
                        found.orders[offset] = wire.decode_order(payload)
                    taken = (wire.limits_version_in(payload), wire.applied_tail(payload))
                    if taken != before:
                        found.applied.append(
                            AppliedOffsets(offset, taken[0].decode(errors="replace"), *wire.applied_in(taken[1]))
                        )
                        before = taken
                except BadRecord:
                    found.unreadable += 1
                    found.applied.append(AppliedOffsets(found.decided, "", 0, 0, unknown=True))
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
        assumed = True
        for offset, order in forgotten.items():
            assumed = self._events.take_until(offset, applied, reports, assumed)
            self._take_without_tick(offset, order, assumed=assumed)
        return len(forgotten)

    def _take_without_tick(self, offset: int, order: PublishedOrder, *, assumed: bool) -> None:
        """An order whose tick is not there, or is none any more by the rules of this version."""
        times = np.array([[order.event_time_ns] * 3])
        made = np.array([[order.quantity, order.reference_price]], np.float64)
        mids, numbers = made[:, 1].copy(), np.array([offset])
        self._state.book.replay([order.symbol], times, mids, numbers, made, assumed=assumed)
        self._state.book.latch_drawdown()

    def _replay_ticks(self, applied: deque[AppliedOffsets], reports: Reports, stop: int) -> int:
        """Feed the ticks up to before `stop`; returns their number, and keeps letters that are not yet safe."""
        count = 0
        orders = {offset: (order.quantity, order.reference_price) for offset, order in self._decided.orders.items()}
        taken = self._decided.applied[: len(self._decided.applied) - len(applied)]
        known = [one for one in taken if not one.unknown]
        assumed = known[-1].assumed if known else True
        for messages in self._log.ticks(max(self._since, self._first), stop):
            admitted = self._admission.admit_all(
                [m.payload for m in messages], [m.appended_ns for m in messages], self._state.features.symbols
            )
            pairs = list(zip(messages, admitted, strict=True))
            kept = [(m, tick) for m, tick in pairs if isinstance(tick, Tick)]
            lone = deque(m.offset for m, found in pairs if isinstance(found, str) and m.offset in orders)
            places, begin = [m.offset for m, _ in kept], 0
            while begin < len(kept) or lone:
                if lone and (begin == len(kept) or lone[0] < places[begin]):
                    assumed = self._events.take_until(lone[0], applied, reports, assumed)
                    self._take_without_tick(lone[0], self._decided.orders[lone.popleft()], assumed=assumed)
                    self._unadmitted += 1
                    continue
                assumed = self._events.take_until(places[begin], applied, reports, assumed)
                stops = [applied[0].offset] if applied else []
                end = bisect_left(places, min([*stops, *list(lone)[:1]]), begin) if stops or lone else len(kept)
                part = kept[begin:end]
                sent_ns = [m.sent_ns for m, _ in part]
                self._state.replay([tick for _, tick in part], sent_ns, places[begin:end], orders, assumed=assumed)
                begin = end
            count += len(kept)
            self._keep_letters(messages, admitted)
        while applied:
            assumed = self._events.take(applied.popleft(), reports, assumed)
        return count

    def _keep_letters(self, messages: Sequence[LoggedMessage], admitted: Sequence[Tick | str]) -> None:
        """What was no tick at or after the commit may not have been published as such."""
        partition = self._log.partition
        for message, found in zip(messages, admitted, strict=True):
            if isinstance(found, str) and message.offset >= self._committed:
                trace_id = self._trace_ids.of(partition, message.offset, message.traceparent)
                place = (self._log.ticks_topic, partition, message.offset)
                self._letters.append(dead_letter(*place, found, message.key, message.payload, trace_id))

"""What is published together: decisions, orders, dead letters and snapshots, with the offsets that they cover."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from gateway.batch import Batch, PartitionBatch
from gateway.decider import Decided
from gateway.ports import DecisionSink, Outbox, OutgoingRecord, PartitionOutbox, Stream
from trading.dead_letters import DeadLetter, dead_letter
from trading.decision import wire
from trading.encoding import encode
from trading.events import NewOrder
from trading.risk.trading_state import SEVERITY, TradingState
from trading.state.partition import Snapshot
from trading.trace import TraceIds


class PendingBatch(Struct, frozen=True):
    """A batch between decision and publication.

    Attributes:
        ticks: how many messages it was made of.
        polled_ns: monotonic time of their poll.
        parts: what is published.
        snapshots: kept once all before them is decided for good.
        counted: whether it holds a place among the batches in flight.
    """

    ticks: int
    polled_ns: int
    parts: Outbox
    snapshots: list[Snapshot]
    counted: bool


class OutboxBuilder:
    """Makes of a decided batch what is published of it; one thread uses it."""

    def __init__(
        self, topic: str, trace_ids: TraceIds, sink: DecisionSink, order_lifetime_ns: int, *, to_broker: bool
    ) -> None:
        """Prepare.

        Args:
            topic: of the ticks.
            trace_ids: of the topic.
            sink: knows where a partition's decisions end.
            order_lifetime_ns: from its decision, after which an order must neither leave nor be taken.
            to_broker: whether orders are sent; else they count as filled.
        """
        self._topic, self._trace_ids, self._sink, self._to_broker = topic, trace_ids, sink, to_broker
        self._lifetime_ns = order_lifetime_ns

    def build(self, batch: Batch, decided: Decided, polled_ns: int, trading_state: TradingState) -> PendingBatch:
        """Everything of the batch, decided under a trading state, by partition."""
        pending = PendingBatch(sum(len(part.raw) for part in batch.parts), polled_ns, {}, [], counted=True)
        for part in batch.parts:
            self._put(part, decided, trading_state, pending)
        return pending

    def offset_alone(self, partition: int, next_offset: int, polled_ns: int) -> PendingBatch:
        """No records: what lies before this offset is done with."""
        return PendingBatch(0, polled_ns, {partition: PartitionOutbox([], next_offset)}, [], counted=False)

    def letters(self, letters: list[DeadLetter], polled_ns: int) -> PendingBatch:
        """Dead letters of a rebuilt partition, which may be missing; there is at least one."""
        records = [letter_record(letter) for letter in letters]
        parts = {letters[-1].partition: PartitionOutbox(records, letters[-1].offset + 1)}
        return PendingBatch(0, polled_ns, parts, [], counted=False)

    def _put(
        self, part: PartitionBatch, decided: Decided, trading_state: TradingState, pending: PendingBatch
    ) -> None:
        raw, mine = part.raw, slice(part.begin, part.end)
        next_offset = raw.offsets[-1] + 1
        records: list[OutgoingRecord] = [
            (Stream.DECISIONS, key, value)
            for key, value in zip(decided.keys[mine], decided.payloads[mine], strict=True)
        ]
        if self._to_broker:
            records += self._orders(part, decided)
        records += self._dead_letters(part)
        pending.parts[raw.partition] = made = PartitionOutbox(records, next_offset)
        if decided.quantities[mine].any():
            made.expires_ns, made.severity = decided.decided_at_ns + self._lifetime_ns, SEVERITY[trading_state]
        if part.features is not None:
            decisions_from = self._sink.decisions_from(raw.partition)
            pending.snapshots.append(part.state.snapshot(raw.partition, next_offset, decisions_from, part.features))

    def _orders(self, part: PartitionBatch, decided: Decided) -> list[OutgoingRecord]:
        """What the broker gets."""
        raw, limits = part.raw, part.state.book.limits
        records: list[OutgoingRecord] = []
        for k in (part.begin + np.flatnonzero(decided.quantities[part.begin : part.end])).tolist():
            i = part.kept[k - part.begin]
            order = NewOrder(
                order_id=wire.make_id(self._topic, raw.partition, raw.offsets[i]),
                number=raw.offsets[i],
                symbol=decided.keys[k].decode(),
                quantity=float(decided.quantities[k]),
                price=float(decided.prices[k]),
                event_time_ns=int(decided.event_time_ns[k]),
                sent_ns=decided.decided_at_ns,
                expires_ns=decided.decided_at_ns + self._lifetime_ns,
                state_version=part.state.control_to,
                account=limits.account,
                strategy=limits.strategy,
                trace_id=self._trace_ids.of(raw.partition, raw.offsets[i], raw.traceparents[i]),
            )
            records.append((Stream.ORDERS, decided.keys[k], encode(order)))
        return records

    def _dead_letters(self, part: PartitionBatch) -> list[OutgoingRecord]:
        raw = part.raw
        records = []
        for i, reason in part.letters:
            trace_id = self._trace_ids.of(raw.partition, raw.offsets[i], raw.traceparents[i])
            place = (self._topic, raw.partition, raw.offsets[i])
            records.append(letter_record(dead_letter(*place, reason, raw.keys[i], raw.payloads[i], trace_id)))
        return records


def merged(together: list[PendingBatch]) -> Outbox:
    """Of several batches, in order, one outbox."""
    outbox: Outbox = {}
    for pending in together:
        for partition, part in pending.parts.items():
            whole = outbox.setdefault(partition, PartitionOutbox([], part.next_offset))
            whole.records += part.records
            whole.next_offset = part.next_offset
            whole.expires_ns = min(whole.expires_ns, part.expires_ns)
            whole.severity = min(whole.severity, part.severity)
    return outbox


def letter_record(letter: DeadLetter) -> OutgoingRecord:
    """A dead letter, keyed as its message was."""
    key = None if letter.key is None else letter.key.encode()
    return Stream.DEAD_LETTERS, key, encode(letter)

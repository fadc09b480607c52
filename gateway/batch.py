"""A poll's messages made into one batch: decoded, admitted, with features, and shed where time is short."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct

from gateway.load_shedding import triage
from gateway.partitions import PartitionStates
from gateway.ports import Clock, RawBatch, RawSlice, SnapshotStore
from trading.arrays import CodeArray, Int64Array
from trading.features.engine import FeatureRows
from trading.intake import Admission, decode_ticks
from trading.market import Tick, TickBatch
from trading.state.partition import FeatureDump, PartitionState


class PartitionBatch(Struct, frozen=True):
    """A partition's part of a batch.

    Attributes:
        raw: the messages.
        state: of the partition.
        begin, end: its rows within the batch.
        kept: positions in `raw` of the messages that are ticks.
        letters: positions in `raw` of the others, with the reason.
        features: a copy of the feature state after the slice, where a snapshot is due.
    """

    raw: RawSlice
    state: PartitionState
    begin: int
    end: int
    kept: list[int]
    letters: list[tuple[int, str]]
    features: FeatureDump | None


class Batch(Struct, frozen=True):
    """Ticks of several partitions, one after another, with what is known of them before they are decided.

    Attributes:
        parts: a partition each, in the order of the rows.
        ticks: n ticks.
        rows: their features.
        partitions, offsets, sent_ns: int64 [n].
        shed: int8 [n], why a tick is not sent for inference; negative where it is.
        left_ns: int64 [n], what is left of each tick's budget.
    """

    parts: list[PartitionBatch]
    ticks: TickBatch
    rows: FeatureRows
    partitions: Int64Array
    offsets: Int64Array
    sent_ns: Int64Array
    shed: CodeArray
    left_ns: Int64Array

    def spread(self, values: Iterable[int]) -> Int64Array:
        """A value a partition, for each of its rows, int64 [n]."""
        return np.repeat(np.array(list(values), np.int64), [part.end - part.begin for part in self.parts])


class BatchTiming(Struct, frozen=True):
    """What a batch's ticks share of their stage times.

    Attributes:
        received_ns: wall time of the poll.
        features_us, inference_us: how long these took.
        started_ns: wall time at which deciding began.
    """

    received_ns: int
    features_us: float
    inference_us: float
    started_ns: int


class Budget(Struct, frozen=True):
    """From sending a tick to publishing its decision.

    Attributes:
        whole_ns: beyond it a tick is held, never traded late.
        reserve_ns: of it, what risk and publishing need.
        shed_below_ns: a tick with less left is decided only if no newer tick of its symbol has come.
    """

    whole_ns: int
    reserve_ns: int
    shed_below_ns: int


class BatchBuilder:
    """Builds batches and moves each partition's features; one thread uses it."""

    def __init__(
        self, states: PartitionStates, admission: Admission, snapshots: SnapshotStore, clock: Clock, budget: Budget
    ) -> None:
        self._states, self._admission, self._snapshots = states, admission, snapshots
        self._clock, self._budget = clock, budget

    def build(self, raw: RawBatch) -> Batch:
        """Decode, admit, compute features, and shed."""
        parts, ticks = self._admit(raw)
        together = TickBatch.from_ticks(ticks)
        rows = FeatureRows.empty(together.event_time_ns)
        for k, part in enumerate(parts):
            parts[k] = self._observe(part, together, rows)
        sent = column(parts, [part.raw.sent_ns for part in parts])
        left_ns = budgets_left_ns(sent, raw.received_ns, self._clock.now_ns(), self._budget.whole_ns)
        return Batch(
            parts=parts,
            ticks=together,
            rows=rows,
            partitions=np.repeat(
                np.array([part.raw.partition for part in parts], np.int64), [len(part.kept) for part in parts]
            ),
            offsets=column(parts, [part.raw.offsets for part in parts]),
            sent_ns=sent,
            shed=self._shed(parts, together, left_ns),
            left_ns=left_ns,
        )

    def _admit(self, raw: RawBatch) -> tuple[list[PartitionBatch], list[Tick]]:
        decoded = decode_ticks([payload for part in raw.slices for payload in part.payloads])
        parts: list[PartitionBatch] = []
        ticks: list[Tick] = []
        at = 0
        for found in raw.slices:
            state = self._states.of(found.partition)
            mine = decoded[at : at + len(found)]
            at += len(found)
            admitted = self._admission.admit_decoded(mine, found.appended_ns, state.features.symbols)
            kept = [i for i, one in enumerate(admitted) if isinstance(one, Tick)]
            letters = [(i, one) for i, one in enumerate(admitted) if isinstance(one, str)]
            begin = len(ticks)
            ticks += [one for one in admitted if isinstance(one, Tick)]
            parts.append(PartitionBatch(found, state, begin, len(ticks), kept, letters, None))
        return parts, ticks

    def _observe(self, part: PartitionBatch, ticks: TickBatch, rows: FeatureRows) -> PartitionBatch:
        """Feed the partition's ticks to its features; a copy of them goes with it where a snapshot is due."""
        part.state.observe(ticks.part(part.begin, part.end), rows.part(part.begin, part.end))
        if not self._snapshots.due(part.raw.partition):
            return part
        features = part.state.dump_features()
        return PartitionBatch(part.raw, part.state, part.begin, part.end, part.kept, part.letters, features)

    def _shed(self, parts: Sequence[PartitionBatch], ticks: TickBatch, left_ns: Int64Array) -> CodeArray:
        budget = self._budget
        shed = [
            triage(
                ticks.symbols[part.begin : part.end],
                left_ns[part.begin : part.end],
                budget.reserve_ns,
                budget.shed_below_ns,
            )
            for part in parts
        ]
        return shed[0] if len(shed) == 1 else np.concatenate(shed)


def column(parts: Sequence[PartitionBatch], values: Sequence[list[int]]) -> Int64Array:
    """What each part's messages say, of those that are ticks, int64 [n]."""
    kept: list[int] = []
    for part, every in zip(parts, values, strict=True):
        kept += every if not part.letters else [every[i] for i in part.kept]
    return np.array(kept, np.int64)


def budgets_left_ns(sent_ns: Int64Array, received_ns: int, now_ns: int, budget_ns: int) -> Int64Array:
    """What is left of each tick's budget; no clock that runs ahead or steps back lengthens it."""
    left: Int64Array = np.minimum(np.minimum(sent_ns, received_ns) + (budget_ns - now_ns), budget_ns)
    return left

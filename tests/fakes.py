"""Hand-written fakes, one a port of gateway/ports.py."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from connectors.kafka.offsets import OffsetTracker, Ticket
from gateway.ports import DecisionCounts, Outbox, RawBatch, RawSlice, Stream
from trading.arrays import Float32Array
from trading.dead_letters import DeadLetter
from trading.decision.schema import Decision
from trading.decision.wire import decode_decision
from trading.encoding import encode
from trading.errors import PredictionError
from trading.events import CancelOrder, ExecutionReport, NewOrder, PartitionEvents
from trading.market import Tick
from trading.models.prediction import Prediction
from trading.models.signature import STRATEGIES
from trading.risk.limits import LimitSet, LimitsFile
from trading.risk.trading_state import TradingState
from trading.state.partition import Snapshot
from trading.state.recovery import Restored

SECOND = 1_000_000_000


def limit_set(books: int = 1, **defaults: object) -> LimitSet:
    """The default limits, but for these."""
    return LimitSet(LimitsFile(defaults=defaults), books=books)


class FakeClock:
    """Clocks that stand still until they are advanced, or slept by."""

    def __init__(self, now_ns: int = 1_700_000_000 * SECOND) -> None:
        self._now_ns, self._monotonic_ns = now_ns, 0

    def now_ns(self) -> int:
        return self._now_ns

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def sleep(self, seconds: float) -> None:
        self._monotonic_ns += int(seconds * 1e9)

    def advance(self, ms: float) -> None:
        """Both clocks; monotonic time never steps back."""
        self._now_ns += int(ms * 1e6)
        self._monotonic_ns += max(0, int(ms * 1e6))


class FakeSource:
    """Gives the batches that it was given, then nothing; keeps what was committed."""

    topic = "market.ticks"

    def __init__(self, batches: list[RawBatch]) -> None:
        self.batches = list(batches)
        self.committed: dict[int, int] = {}
        self.closed = False
        self.held = 0
        self.rebuilt: list[int] = []
        self.exhausted = threading.Event()

    def poll(self, max_messages: int, timeout_s: float) -> RawBatch | None:
        if not self.batches:
            self.exhausted.set()
            return None
        return self.batches.pop(0)

    def hold(self) -> None:
        self.held += 1

    def rebuild(self, partitions: list[int]) -> None:
        self.rebuilt += partitions

    def commit(self, next_offsets: dict[int, int], *, wait: bool = False) -> None:
        self.committed.update(next_offsets)

    def close(self) -> None:
        self.closed = True


class FakePredictor:
    """Answers with a fixed target, or fails as told."""

    model_name = "trading_decision"

    def __init__(self, target: float = 0.5, error: PredictionError | None = None) -> None:
        self.target, self.error = target, error
        self.batches: list[Float32Array] = []
        self.timeouts: list[float] = []
        self.broken_rows: set[int] = set()
        self.closed = False
        self.while_asked: Callable[[], object] = lambda: None

    def predict(self, features: Float32Array, timeout_s: float) -> Prediction:
        self.batches.append(features)
        self.timeouts.append(timeout_s)
        self.while_asked()
        return self._predict(len(features))

    def close(self) -> None:
        self.closed = True

    def _predict(self, n: int) -> Prediction:
        if self.error is not None:
            raise self.error
        valid = np.array([i not in self.broken_rows for i in range(n)])
        return Prediction(
            regime_probabilities=np.tile(np.float32([0.5, 0.25, 0.25]), (n, 1)),
            strategy_signals=np.full((n, len(STRATEGIES)), self.target, np.float32),
            strategy_weights=np.full((n, len(STRATEGIES)), 1.0 / len(STRATEGIES), np.float32),
            target_position=np.full(n, self.target),
            valid=valid,
            model_version="7",
        )


class FakeSink:
    """Keeps what was published; confirms at once, or when `flush` is called."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.decisions: list[Decision] = []
        self.letters: list[DeadLetter] = []
        self.orders: list[NewOrder] = []
        self.snapshots: list[tuple[int, bytes]] = []
        self.outboxes = 0
        self._tracker, self._at_once = OffsetTracker(), at_once
        self._waiting: list[Ticket] = []

    def begin(self, partition: int, next_offset: int, decisions_from: int) -> None:
        self._tracker.begin(partition, next_offset)

    def publish(self, outbox: Outbox, wanted: Callable[[int], bool]) -> None:
        self.outboxes += 1
        for partition, part in outbox.items():
            if not wanted(partition):
                continue
            for stream, _, value in part.records:
                if stream is Stream.DECISIONS:
                    self.decisions.append(decode_decision(value))
                elif stream is Stream.ORDERS:
                    self.orders.append(msgspec.json.decode(value, type=NewOrder))
                elif stream is Stream.DEAD_LETTERS:
                    self.letters.append(msgspec.json.decode(value, type=DeadLetter))
                else:
                    self.snapshots.append((partition, value))
            self._waiting.append(self._tracker.sent(partition, part.next_offset, 1))
        if self._at_once:
            self.flush(0.0)

    def safe(self, partition: int) -> int:
        return self._tracker.safe(partition)

    def decisions_from(self, partition: int) -> int:
        return len(self.decisions)

    def committable(self) -> dict[int, int]:
        return self._tracker.committable()

    def forget(self, partition: int) -> None:
        self._tracker.forget(partition)

    def poll(self) -> None:
        pass

    def flush(self, timeout_s: float) -> None:
        for ticket in self._waiting:
            self._tracker.done(ticket)
        self._waiting.clear()


class FakeCancels:
    """Keeps what the broker was asked to end; `fail` loses what was asked last."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, CancelOrder]] = []
        self._failed: dict[int, set[int]] = {}

    def send(self, partition: int, cancels: Sequence[CancelOrder]) -> None:
        self.sent += [(partition, cancel) for cancel in cancels]

    def undelivered(self) -> dict[int, set[int]]:
        found, self._failed = self._failed, {}
        return found

    def fail(self) -> None:
        for partition, cancel in self.sent:
            self._failed.setdefault(partition, set()).add(cancel.number)
        self.sent = []


class FakeSnapshots:
    """Wants one of every batch, and keeps them."""

    def __init__(self, records: list[tuple[Stream, bytes | None, bytes]] | None = None) -> None:
        self.kept: list[Snapshot] = []
        self._records = records or []

    def due(self, partition: int) -> bool:
        return True

    def offer(self, snapshot: Snapshot) -> None:
        self.kept.append(snapshot)

    def take_records(self, partition: int) -> list[tuple[Stream, bytes | None, bytes]]:
        records, self._records = self._records, []
        return records


class FakeEvents:
    """Gives each partition what the test put there, once."""

    def __init__(self) -> None:
        self.waiting: dict[int, PartitionEvents] = {}
        self.asked: list[tuple[int, int, int]] = []

    def take(self, partition: int, fills_to: int, control_to: int) -> PartitionEvents | None:
        self.asked.append((partition, fills_to, control_to))
        return self.waiting.pop(partition, None)

    def untaken(self, partition: int) -> Sequence[ExecutionReport]:
        found = self.waiting.get(partition)
        return [] if found is None else found.reports


class FakeReservations:
    """A quota that the test sets."""

    def __init__(self, money: float) -> None:
        self.money = money

    def quota(self, partition: int, gross: float) -> float:
        return self.money


class FakeStates:
    """A trading state that the test sets."""

    def __init__(self, state: TradingState = TradingState.ACTIVE) -> None:
        self.state = state

    def trading_state(self) -> TradingState:
        return self.state


class FakeAssignment:
    """Keeps what it is told of partitions that come and go."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int | list[int]]] = []

    def ready(self, partition: int, restored: Restored) -> None:
        self.heard.append(("ready", partition))

    def revoked(self, partitions: list[int]) -> None:
        self.heard.append(("revoked", partitions))

    def lost(self, partitions: list[int]) -> None:
        self.heard.append(("lost", partitions))


class FakeMetrics:
    """Counts."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.letters = 0
        self.ticks = 0
        self.overtaken_shares: list[bool] = []
        self.cancelled_orders = 0
        self.recorded: dict[str, float] = {}

    def batch(self, size: int, queue_s: float, features_s: float, asked: int) -> None:
        self.batches.append(size)

    def decided(self, counts: DecisionCounts, inference_s: float, decide_s: float) -> None:
        pass

    def traced(self, recorded: Mapping[str, float], at_ns: int) -> None:
        self.recorded.update(recorded)

    def published(self, ticks: list[int], publish_s: float, received_to_published_s: list[float]) -> None:
        self.ticks += sum(ticks)

    def unfinished(self, ticks: int) -> None:
        pass

    def dead_letters(self, count: int) -> None:
        self.letters += count

    def overtaken(self, *, late: bool) -> None:
        self.overtaken_shares.append(late)

    def cancelled(self, orders: int) -> None:
        self.cancelled_orders += orders

    def paused(self, paused: bool) -> None:
        pass


def raw_batch(
    ticks: list[Tick | bytes | None], clock: FakeClock, first_offset: int = 0, partition: int = 0
) -> RawBatch:
    """Ticks, or raw payloads, as messages sent now."""
    n = len(ticks)
    part = RawSlice(
        partition=partition,
        offsets=list(range(first_offset, first_offset + n)),
        sent_ns=[clock.now_ns()] * n,
        keys=[None] * n,
        payloads=[t if isinstance(t, bytes) or t is None else encode(t) for t in ticks],
        traceparents=[None] * n,
        appended_ns=[clock.now_ns()] * n,
    )
    return RawBatch([part], clock.now_ns())

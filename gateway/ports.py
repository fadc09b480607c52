"""What the pipeline needs of the world, as protocols. Adapters implement them, tests fake them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from trading.arrays import Float32Array, FloatArray
from trading.events import CancelOrder, ExecutionReport, PartitionEvents
from trading.experiments.arms import Arm
from trading.experiments.assignment import CanaryArms
from trading.models.prediction import Prediction
from trading.risk.trading_state import SEVERITY, TradingState
from trading.state.partition import Snapshot
from trading.trace import Tracer


class RawSlice(Struct, frozen=True):
    """A partition's messages as they came, in order; lists of equal length.

    `sent_ns` is the wall time at which the producer says that it sent each message, `appended_ns` that of the
    broker when it came there; `traceparents` are the W3C headers that the producer gave them.
    """

    partition: int
    offsets: list[int]
    sent_ns: list[int]
    keys: list[bytes | None]
    payloads: list[bytes | None]
    traceparents: list[bytes | None]
    appended_ns: list[int]

    def __len__(self) -> int:
        return len(self.offsets)


class RawBatch(Struct, frozen=True):
    """What one poll brought, a slice a partition. `received_ns` is the wall time of the poll."""

    slices: list[RawSlice]
    received_ns: int

    def __len__(self) -> int:
        return sum(map(len, self.slices))


class Stream(StrEnum):
    """Where a record goes."""

    DECISIONS = "decisions"
    ORDERS = "orders"
    DEAD_LETTERS = "dead_letters"
    SNAPSHOTS = "snapshots"


#: Where it goes, its key and its bytes.
OutgoingRecord = tuple[Stream, bytes | None, bytes]


#: Of a share without orders: it is never too late, and no trading state keeps it.
NEVER_NS, NO_ORDERS = 2**62, max(SEVERITY.values())


class PartitionOutbox(Struct):
    """A partition's share of an outbox.

    Attributes:
        records: in order.
        next_offset: after the last tick of them.
        expires_ns: wall time after which its orders must not leave.
        severity: of the trading state that let its orders through; under a more severe one they must not leave.
    """

    records: list[OutgoingRecord]
    next_offset: int
    expires_ns: int = NEVER_NS
    severity: int = NO_ORDERS


#: What is published together, by partition.
Outbox = dict[int, PartitionOutbox]


class TickSource(Protocol):
    """Messages of the partitions that this gateway owns and has rebuilt."""

    topic: str

    def poll(self, max_messages: int, timeout_s: float) -> RawBatch | None:
        """What has arrived, at once; waits only while there is nothing at all."""

    def hold(self) -> None:
        """Take no message, but stay in the group; a `poll` with messages wanted goes on."""

    def commit(self, next_offsets: dict[int, int], *, wait: bool = False) -> None:
        """Note where to go on after a restart."""

    def rebuild(self, partitions: list[int]) -> None:
        """Forget what was decided of them and not published, and make their state anew from the log."""

    def close(self) -> None:
        """Leave the group."""


class Predictor(Protocol):
    """The model server, with one pinned model version."""

    model_name: str

    def predict(self, features: Float32Array, timeout_s: float) -> Prediction:
        """Ask for float32 [n, 32]. Raises PredictionError."""

    def close(self) -> None:
        """Free the connection."""


class PendingPrediction(Protocol):
    """An answer that is on its way."""

    def result(self, timeout_s: float) -> Prediction:
        """Wait for it, so long at most. Raises PredictionError."""


class ChallengerModel(Protocol):
    """A model that an experiment compares with the one that decides."""

    def begin(self, features: Float32Array) -> PendingPrediction:
        """Ask for float32 [n, 32], and do not wait. Raises PredictionError."""


class RunningCanary(Struct, frozen=True):
    """An experiment whose challengers have a share of the units.

    Attributes:
        arms: how its units are divided.
        champion: model and version that must answer the other rows.
        challengers: their arms, with model and version, in the order of `arms`.
        models: of each, what is asked; None where it is not served.
    """

    arms: CanaryArms
    champion: tuple[str, str]
    challengers: Sequence[Arm]
    models: Sequence[ChallengerModel | None]


class Canaries(Protocol):
    """The experiments that divide units now."""

    def running(self) -> Sequence[RunningCanary]:
        """The same object as long as nothing changes. Never waits."""


class DecisionSink(Protocol):
    """Where decisions, dead letters and snapshots go, with the offsets that they cover."""

    def begin(self, partition: int, next_offset: int, decisions_from: int) -> None:
        """A partition is taken over at this point of its logs."""

    def publish(self, outbox: Outbox, wanted: Callable[[int], bool]) -> None:
        """Publish all but the parts that are not wanted, asked before every try. Raises ServiceUnavailable."""

    def safe(self, partition: int) -> int:
        """Every tick before this offset is decided for good."""

    def decisions_from(self, partition: int) -> int:
        """An offset that no decision at or after `safe` lies before."""

    def committable(self) -> dict[int, int]:
        """Offsets that the source must commit, because the sink did not."""

    def forget(self, partition: int) -> None:
        """The partition belongs to another gateway."""

    def poll(self) -> None:
        """Serve delivery reports. Raises ServiceUnavailable when one failed."""

    def flush(self, timeout_s: float) -> None:
        """Wait until all is delivered. Raises ServiceUnavailable when it is not."""


class CancelSink(Protocol):
    """How the broker is asked to end orders, beside everything else that is published."""

    def send(self, partition: int, cancels: Sequence[CancelOrder]) -> None:
        """Ask; never waits, and raises nothing."""

    def undelivered(self) -> dict[int, set[int]]:
        """Partition -> numbers of orders whose cancel did not arrive, since the last call."""


class SnapshotStore(Protocol):
    """Keeps the newest snapshot of each partition, off the live path."""

    def due(self, partition: int) -> bool:
        """Whether a new one is wanted."""

    def offer(self, snapshot: Snapshot) -> None:
        """Keep it, in time; one that is offered before the last was kept replaces it."""

    def take_records(self, partition: int) -> list[OutgoingRecord]:
        """A durable copy, to be published with the next decisions; empty while none is due."""


class StateStore(Protocol):
    """The desk's latched trading state."""

    def trading_state(self) -> TradingState:
        """The latest state; never ACTIVE when it cannot be known."""


class EventSource(Protocol):
    """What reaches a partition beside its ticks: limits, resets, the broker's reports."""

    def take(self, partition: int, fills_to: int, control_to: int) -> PartitionEvents | None:
        """What came since these offsets, in order; None where nothing has. Never waits."""

    def untaken(self, partition: int) -> Sequence[ExecutionReport]:
        """The broker's reports that have come and were not taken yet, in order. Never waits."""


class ExposureReservation(Protocol):
    """The desk's common limit, of which each book may use what is reserved for it."""

    def quota(self, partition: int, gross: float) -> float:
        """What is reserved, in money, for a book whose gross exposure is `gross`; NaN when it is not known.

        Never waits: more is asked for in the background.
        """


class Clock(Protocol):
    """Time, injected, so that tests move it."""

    def now_ns(self) -> int:
        """Wall time, nanoseconds since 1970 UTC; it may step either way."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since some moment; it never steps back."""

    def sleep(self, seconds: float) -> None:
        """Let monotonic time pass."""


class DecisionCounts(Struct, frozen=True):
    """What is counted of a batch's decisions.

    Attributes:
        kinds: how many of each variant, action and reason.
        broken: how often each rule was broken.
        headroom: least share of each rule's limit that an order left; below 0 it was made smaller, or denied.
        total_s: float64 [n], from sending a tick to its decision.
        experiments: rows of each experiment, assigned arm and reason why the champion decided all the same.
    """

    kinds: Mapping[tuple[str, str, str], int]
    broken: Counter[str]
    headroom: Mapping[str, float]
    total_s: FloatArray
    experiments: Mapping[tuple[str, str, str], int] = {}


class Metrics(Protocol):
    """What is counted. Durations in seconds."""

    def batch(self, size: int, queue_s: float, features_s: float, asked: int) -> None:
        """A batch was read, of which `asked` rows were sent for inference."""

    def decided(self, counts: DecisionCounts, inference_s: float, decide_s: float) -> None:
        """A batch was decided."""

    def traced(self, recorded: Mapping[str, float], at_ns: int) -> None:
        """Of that batch those whose trace is recorded: trace id -> seconds from sending a tick to its decision."""

    def published(self, ticks: list[int], publish_s: float, received_to_published_s: list[float]) -> None:
        """Batches of so many ticks were published together; the last are times since each one's poll."""

    def unfinished(self, ticks: int) -> None:
        """Ticks read and not yet published."""

    def dead_letters(self, count: int) -> None:
        """Messages were no ticks."""

    def overtaken(self, *, late: bool) -> None:
        """A partition's orders did not leave: too late, or the trading state had become more severe."""

    def cancelled(self, orders: int) -> None:
        """The broker is asked to end so many orders, because the desk is stopped."""

    def paused(self, paused: bool) -> None:
        """Whether the source is held because nothing more fits in flight."""


class Ports(Struct, frozen=True):
    """What the pipeline needs of the world.

    Attributes:
        source, predictor, sink, snapshots, states, clock, metrics: always.
        events: what reaches partitions beside their ticks; None where nothing can.
        cancels: how a broker is asked to end orders; None where orders count as filled.
        reservations: of the desk's common limit; None where no book has a quota.
        tracer: where traces go; None where they are off.
        canaries: experiments that divide units; None where none can be.
    """

    source: TickSource
    predictor: Predictor
    sink: DecisionSink
    snapshots: SnapshotStore
    states: StateStore
    clock: Clock
    metrics: Metrics
    events: EventSource | None = None
    cancels: CancelSink | None = None
    reservations: ExposureReservation | None = None
    tracer: Tracer | None = None
    canaries: Canaries | None = None

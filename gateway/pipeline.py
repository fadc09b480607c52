"""A tick's path: poll, decode, features, predict, decide, risk | publish with its offset.

One thread decides, another publishes. While a batch is decided and published nothing is polled, so the next
one gathers by itself: load makes batches larger, not queues longer. Only after a large batch (`gateway.pace`), or
when publishing takes a quarter of a tick's budget, the next one is decided meanwhile. On two cores a thread that is
woken costs more than what it could do meanwhile: a third, for inference, made every latency longer.
"""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
from msgspec import Struct

from gateway.arms import count_by_arm
from gateway.batch import Batch, BatchBuilder, BatchTiming, Budget
from gateway.cancels import OrderCanceller
from gateway.decider import Decided, Decider
from gateway.experiments import ArmsPredictor
from gateway.outbox import OutboxBuilder, PendingBatch
from gateway.pace import Pace
from gateway.partitions import PartitionStates
from gateway.ports import DecisionCounts, Ports, RawBatch
from gateway.publisher import DRAIN_S, POLL_S, Publisher
from gateway.traces import record_traces
from trading.decision.policy import DecisionPolicy
from trading.decision.schema import KINDS
from trading.intake import Admission
from trading.state.recovery import Restored
from trading.trace import TraceIds

COMMIT_EVERY_NS = 100_000_000
#: Without room for so long, the source is held: its queue stops growing, and it stays in its group.
HOLD_AFTER_NS = 500_000_000


class PipelineSettings(Struct, frozen=True):
    """How ticks are batched and when they are too late.

    Attributes:
        budget_ns: from sending a tick to publishing its decision; beyond it a tick is held, never
            traded late.
        reserve_ns: of it, what risk and publishing need.
        shed_below_ns: a tick with less of its budget left is decided only if no newer tick of its
            symbol has come.
        max_batch: rows of one call.
        max_unpublished: batches between poll and publication.
        gather_s: between two polls while many ticks come, of a budget a quarter at most; less while few do.
        order_lifetime_ns: from its decision, after which an order must neither leave nor be taken.
        variant: what the rows that no challenger decides are counted under.
    """

    budget_ns: int = 50_000_000
    reserve_ns: int = 5_000_000
    shed_below_ns: int = 15_000_000
    max_batch: int = 1024
    max_unpublished: int = 16
    gather_s: float = 0.012
    variant: str = "champion"
    order_lifetime_ns: int = 1_000_000_000

    @property
    def patience_s(self) -> float:
        """What of a tick's budget it may spend for the sake of a larger batch, each time that it waits."""
        return self.budget_ns / 4e9

    @property
    def budget(self) -> Budget:
        """The times alone."""
        return Budget(self.budget_ns, self.reserve_ns, self.shed_below_ns)


class PipelineStatus(Struct, frozen=True):
    """What the pipeline is doing. Ages in seconds."""

    in_flight: int
    unfinished: int
    last_poll_s: float
    held: bool
    stopping: bool
    failure: str


class Pipeline:
    """Runs until `stop`; what was read is then decided, delivered and committed."""

    def __init__(
        self,
        ports: Ports,
        states: PartitionStates,
        policy: DecisionPolicy,
        admission: Admission,
        settings: PipelineSettings,
    ) -> None:
        """Put the stages together; `run` begins.

        Args:
            ports: what the pipeline needs of the world.
            states: of the partitions that this gateway owns.
            policy: how a target becomes an order.
            admission: what is taken for a tick.
            settings: batching and times.
        """
        self._ports, self._states, self._settings = ports, states, settings
        self._source, self._clock, self._metrics = ports.source, ports.clock, ports.metrics
        self._trace_ids = TraceIds(ports.source.topic)
        self._batches = BatchBuilder(states, admission, ports.snapshots, ports.clock, settings.budget)
        self._decider = Decider(
            topic=ports.source.topic,
            policy=policy,
            latest_ns=settings.budget_ns - settings.reserve_ns // 2,
            clock=ports.clock,
            trace_ids=self._trace_ids,
        )
        self._arms = ArmsPredictor(ports.predictor, ports.canaries, ports.clock, settings.variant)
        self._outbox = OutboxBuilder(
            ports.source.topic, self._trace_ids, ports.sink, settings.order_lifetime_ns,
            to_broker=not policy.assumed_fills,
        )  # fmt: skip
        self._publisher = Publisher(
            ports.sink, ports.snapshots, ports.states, ports.clock, ports.metrics, settings.max_unpublished
        )
        self._canceller = None if ports.cancels is None else OrderCanceller(ports, ports.cancels, states)
        self._pace = Pace(min(settings.gather_s, settings.patience_s, POLL_S), settings.max_batch)
        self._stopping = threading.Event()
        self._next_commit_ns = 0
        self._last_poll_ns = self._last_room_ns = ports.clock.monotonic_ns()
        self._held = False

    # ---- whole --------------------------------------------------------------------------------

    def run(self) -> None:
        """Decide until stopped, then drain. Raises what the publishing thread died of."""
        self._publisher.start(failed=self._stopping.set, meanwhile=self._look_for_stops)
        try:
            while not self._stopping.is_set():
                self.turn()
        finally:
            self._publisher.stop()
        if self._publisher.failure is not None:
            raise self._publisher.failure
        self._flush()

    def stop(self) -> None:
        """Ask for a drain; safe from a signal handler."""
        self._stopping.set()

    def status(self) -> PipelineStatus:
        """As of now; safe from any thread."""
        flying = self._publisher.in_flight()
        return PipelineStatus(
            in_flight=flying.batches,
            unfinished=flying.ticks,
            last_poll_s=(self._clock.monotonic_ns() - self._last_poll_ns) / 1e9,
            held=self._held,
            stopping=self._stopping.is_set(),
            failure=str(self._publisher.failure or ""),
        )

    # ---- a tick's path ------------------------------------------------------------------------

    def turn(self) -> None:
        """One turn: poll what has arrived, decide it, hand it over."""
        self._commit_now_and_then()
        # Before whatever may wait, and while it does: a stop must not.
        self._look_for_stops()
        if overtaken := self._publisher.take_overtaken():
            # What was handed over before is in the log, or never will be, when that is read again.
            self._flush()
            self._source.rebuild(overtaken)
        if not self._take_room():
            self._stay_in_group()
            return
        if (wait_ns := self._pace.wait_ns(self._clock.monotonic_ns())) > 0:
            self._clock.sleep(wait_ns / 1e9)
        self._set_held(held=False)
        self._last_poll_ns = self._last_room_ns = self._clock.monotonic_ns()
        raw = self._source.poll(self._settings.max_batch, POLL_S)
        self._pace.polled(0 if raw is None else len(raw), self._clock.monotonic_ns())
        if raw is None:
            self._publisher.give_room()
            return
        self._publisher.hand_over(self.decide(raw))

    def decide(self, raw: RawBatch) -> PendingBatch:
        """Compute the features of a batch, ask the model, and decide each of its ticks in order."""
        clock = self._clock
        polled_ns = clock.monotonic_ns()
        batch = self._batches.build(raw)
        asked_ns = clock.monotonic_ns()
        answers = self._arms.ask(batch)
        answered_ns = clock.monotonic_ns()
        timing = BatchTiming(
            raw.received_ns, (asked_ns - polled_ns) / 1e3, (answered_ns - asked_ns) / 1e3, clock.now_ns()
        )
        self._take_events(batch)
        trading_state, quotas = self._ports.states.trading_state(), self._quotas(batch)
        decided = self._decider.decide(batch, answers, timing, trading_state, quotas)
        tracer, recorded = self._ports.tracer, dict[str, float]()
        if tracer is not None:
            recorded = record_traces(batch, decided, timing, self._trace_ids, tracer)
        pending = self._outbox.build(batch, decided, polled_ns, trading_state)
        self._count(batch, decided, timing, (clock.monotonic_ns() - answered_ns) / 1e9)
        self._metrics.traced(recorded, decided.decided_at_ns)
        return pending

    def _take_events(self, batch: Batch) -> None:
        """What came beside the ticks is taken before them; their decisions say how far."""
        if self._ports.events is None:
            return
        for part in batch.parts:
            if part.end > part.begin:
                state = part.state
                found = self._ports.events.take(part.raw.partition, state.fills_to, state.control_to)
                if found is not None:
                    state.take(found)

    def _quotas(self, batch: Batch) -> dict[int, float]:
        if self._ports.reservations is None:
            return {}
        return {
            part.raw.partition: self._ports.reservations.quota(part.raw.partition, part.state.book.gross)
            for part in batch.parts
        }

    def _count(self, batch: Batch, decided: Decided, timing: BatchTiming, decide_s: float) -> None:
        size, letters = sum(len(part.raw) for part in batch.parts), sum(len(part.letters) for part in batch.parts)
        queue_s = (timing.received_ns - min(part.raw.sent_ns[0] for part in batch.parts)) / 1e9
        asked = int(np.count_nonzero(batch.shed < 0))
        self._metrics.batch(size, queue_s, timing.features_us / 1e6, asked)
        self._metrics.decided(counts_of(decided), timing.inference_us / 1e6, decide_s)
        if letters:
            self._metrics.dead_letters(letters)

    # ---- partitions come and go ---------------------------------------------------------------

    def adopt(self, partition: int, restored: Restored) -> None:
        """Take a rebuilt partition over; called by the deciding thread, before its first tick."""
        self._states.put(partition, restored.state)
        if self._canceller is not None:
            self._canceller.forget([partition])
        # What was lost is committed with the first outbox, and not counted again.
        self._ports.sink.begin(partition, restored.next_offset - restored.lost, restored.decisions_from)
        if restored.lost:
            self._publisher.hand_over(
                self._outbox.offset_alone(partition, restored.next_offset, self._clock.monotonic_ns())
            )
        if restored.letters:
            self._publisher.hand_over(self._outbox.letters(restored.letters, self._clock.monotonic_ns()))

    def drain(self) -> None:
        """Decide and deliver every batch in flight: a partition is about to leave.

        Raises:
            ServiceUnavailable: it took too long; the partition's state must not be trusted then.
        """
        self._publisher.wait_until_idle()
        if self._publisher.failure is None:
            self._flush()

    def abandon(self, partitions: list[int]) -> None:
        """Another gateway owns them already: what is in flight of them must not be published."""
        self._publisher.abandon(partitions)

    def forget(self, partitions: list[int]) -> None:
        """Their snapshots that wait are no longer ours to keep; called while nothing is in flight."""
        self._publisher.forget(partitions)
        if self._canceller is not None:
            self._canceller.forget(partitions)

    # ---- offsets and the group ----------------------------------------------------------------

    def _flush(self) -> None:
        self._ports.sink.flush(DRAIN_S)
        self._source.commit(self._ports.sink.committable(), wait=True)

    def _commit_now_and_then(self) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._next_commit_ns:
            self._next_commit_ns = now_ns + COMMIT_EVERY_NS
            self._source.commit(self._ports.sink.committable())

    def _take_room(self) -> bool:
        """Whether another batch may be read, within a moment.

        A small one waits for the one before it to be published, but for no more than a part of its ticks' budget.
        """
        if not self._pace.overlaps:
            self._publisher.is_idle_within(min(POLL_S, self._settings.patience_s))
        return self._publisher.take_room(POLL_S)

    def _stay_in_group(self) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._last_room_ns > HOLD_AFTER_NS:
            self._source.hold()
            self._last_poll_ns = now_ns
            self._set_held(held=True)

    def _look_for_stops(self) -> None:
        if self._canceller is not None:
            self._canceller.look()

    def _set_held(self, *, held: bool) -> None:
        if held is not self._held:
            self._held = held
            self._metrics.paused(held)


def counts_of(decided: Decided) -> DecisionCounts:
    """What is counted of a batch's decisions, by the arm that made them."""
    kinds: Counter[tuple[str, str, str]] = Counter()
    width = len(KINDS)
    places = decided.arm_rows.astype(np.int64) * width + decided.kinds
    for place, count in enumerate(np.bincount(places).tolist()):
        if count:
            action, reason = KINDS[place % width]
            kinds[decided.arms[place // width].variant, action.value, reason.value] += count
    rows = np.bincount(decided.arm_rows, minlength=len(decided.arms)).tolist()
    experiments = count_by_arm(decided.arms, rows)
    return DecisionCounts(kinds, decided.broken, decided.headroom, decided.total_s, experiments)

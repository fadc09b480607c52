"""A tick's path: poll, decode, features, predict, decide, risk | publish with its offset.

One thread decides, another publishes. While a batch is decided nothing is polled, so the next one
gathers by itself: no tick waits for a timer, and load makes batches larger, not queues longer. What is
decided while a transaction commits goes with the next. On two cores a thread that is woken costs more
than what it could do meanwhile: a third, for inference, made every latency longer.
"""

from __future__ import annotations

import queue
import threading
import time

import numpy as np
from msgspec import Struct, structs

from gateway.decider import Batch, Decided, Judge, Slice, Timing, budgets_left_ns, traces_of
from gateway.load_shedding import triage
from gateway.partitions import PartitionStates
from gateway.ports import (
    Allowance,
    Clock,
    DecisionSink,
    InputSource,
    Metrics,
    Outbox,
    Outcomes,
    Part,
    Predictor,
    RawBatch,
    Restored,
    SnapshotStore,
    StateStore,
    Stream,
    TickSource,
)
from trading.arrays import BoolArray, CodeArray, Int64Array
from trading.dead_letters import DeadLetter, dead_letter
from trading.decision.json import KINDS
from trading.decision.policy import DecisionPolicy
from trading.decision.schema import Reason
from trading.errors import InvalidPrediction, PredictionError, PredictorTimeout, ServiceUnavailable
from trading.events import NewOrder
from trading.features.engine import FeatureRows
from trading.intake import Admission, decode_ticks
from trading.market import Tick, TickBatch
from trading.models.prediction import Prediction
from trading.state.partition import Snapshot
from trading.trace import TraceIds, Tracer
from trading.wire import encode

POLL_S = 0.05
COMMIT_EVERY_S = 0.1
DRAIN_S = 30.0
#: Without room for so long, the source is held: its queue stops growing, and it stays in its group.
HOLD_AFTER_S = 0.1


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
        publish_every_s: decisions of batches that come faster are published together.
        variant: name of the experiment's arm.
    """

    budget_ns: int = 50_000_000
    reserve_ns: int = 5_000_000
    shed_below_ns: int = 25_000_000
    max_batch: int = 1024
    max_unpublished: int = 16
    publish_every_s: float = 0.004
    variant: str = "champion"


class Waiting(Struct, frozen=True):
    """A batch between decision and publication."""

    ticks: int
    polled_s: float
    parts: Outbox
    snapshots: list[Snapshot]
    counted: bool


class Tokens:
    """A semaphore on a queue that is written in C: taking one costs a microsecond, not twenty."""

    def __init__(self, count: int) -> None:
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(count):
            self._queue.put(None)

    def take(self, timeout_s: float) -> bool:
        """Whether one was free within the time."""
        try:
            self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return False
        return True

    def give(self) -> None:
        """Give one back."""
        self._queue.put(None)


class PipelineStatus(Struct, frozen=True):
    """What the pipeline is doing. Ages in seconds."""

    in_flight: int
    unfinished: int
    last_poll_s: float
    held: bool
    stopping: bool
    failure: str


class Pipeline:
    """Runs until `stop`; what was read is then settled, delivered and committed."""

    def __init__(
        self,
        source: TickSource,
        predictor: Predictor,
        sink: DecisionSink,
        snapshots: SnapshotStore,
        states: StateStore,
        clock: Clock,
        metrics: Metrics,
        state: PartitionStates,
        policy: DecisionPolicy,
        admission: Admission,
        settings: PipelineSettings,
        tracer: Tracer | None = None,
        inputs: InputSource | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self._inputs, self._allowance, self._policy = inputs, allowance, policy
        self._source, self._predictor, self._sink = source, predictor, sink
        self._snapshots, self._states, self._clock, self._metrics = snapshots, states, clock, metrics
        self._state, self._admission, self._settings = state, admission, settings
        self._trace_ids, self._tracer = TraceIds(source.topic), tracer
        self._judge = Judge(
            topic=source.topic,
            policy=policy,
            latest_ns=settings.budget_ns - settings.reserve_ns // 2,
            clock=clock,
            trace_ids=self._trace_ids,
            model_name=predictor.model_name,
            variant=settings.variant,
        )
        #: Bounded by the tokens.
        self._outgoing: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._room = Tokens(settings.max_unpublished)
        self._idle = threading.Condition()
        self._in_flight = 0
        self._unfinished = 0
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._next_commit = 0.0
        self._last_poll = self._last_room = time.monotonic()
        self._held = False
        self._abandoned: set[int] = set()
        self._unsafe: list[Snapshot] = []
        self._unsafe_lock = threading.Lock()

    def stop(self) -> None:
        """Ask for a drain; safe from a signal handler."""
        self._stopping.set()

    def status(self) -> PipelineStatus:
        """As of now; safe from any thread."""
        return PipelineStatus(
            in_flight=self._in_flight,
            unfinished=self._unfinished,
            last_poll_s=time.monotonic() - self._last_poll,
            held=self._held,
            stopping=self._stopping.is_set(),
            failure=str(self._failure or ""),
        )

    def run(self) -> None:
        """Decide until stopped, then drain. Raises what the publishing thread died of."""
        publisher = threading.Thread(target=self._publish_all, name="publish", daemon=True)
        publisher.start()
        try:
            while not self._stopping.is_set():
                self.turn()
        finally:
            self._outgoing.put(None)
            publisher.join()
        if self._failure is not None:
            raise self._failure
        self._flush()

    def adopt(self, partition: int, restored: Restored) -> None:
        """Take a rebuilt partition over; called by the deciding thread, before its first tick."""
        self._state.put(partition, restored.state)
        self._sink.begin(partition, restored.next_offset, restored.decisions_from)
        if restored.letters:
            records = [letter_record(letter) for letter in restored.letters]
            parts = {partition: Part(records, restored.letters[-1].offset + 1)}
            self._hand_over(Waiting(0, time.monotonic(), parts, [], counted=False))

    def drain(self) -> None:
        """Settle and deliver every batch in flight: a partition is about to leave.

        Raises:
            ServiceUnavailable: it took too long; the partition's state must not be trusted then.
        """
        self._wait_until_idle()
        if self._failure is None:
            self._flush()

    def abandon(self, partitions: list[int]) -> None:
        """Another gateway owns them already: what is in flight of them must not be published."""
        self._abandoned.update(partitions)
        self._wait_until_idle()
        self._abandoned.difference_update(partitions)

    def forget(self, partitions: list[int]) -> None:
        """Their snapshots that wait are no longer ours to keep; called while nothing is in flight."""
        with self._unsafe_lock:
            self._unsafe = [s for s in self._unsafe if s.partition not in partitions]

    def _flush(self) -> None:
        self._sink.flush(DRAIN_S)
        self._source.commit(self._sink.committable(), wait=True)

    def _wait_until_idle(self) -> None:
        with self._idle:
            idle = self._idle.wait_for(lambda: self._in_flight == 0 or self._failure is not None, DRAIN_S)
        if not idle:
            raise ServiceUnavailable(f"{self._in_flight} batches were still in flight after {DRAIN_S:.0f} s")

    # ---- the deciding thread ------------------------------------------------------------------

    def turn(self) -> None:
        """One turn: poll what has arrived, decide it, hand it over."""
        self._commit_now_and_then()
        if not self._room.take(POLL_S):
            self._stay_in_group()
            return
        self._set_held(held=False)
        self._last_poll = self._last_room = time.monotonic()
        raw = self._source.poll(self._settings.max_batch, POLL_S)
        if raw is None:
            self._room.give()
            return
        self._hand_over(self.decide(raw))

    def _stay_in_group(self) -> None:
        if time.monotonic() - self._last_room > HOLD_AFTER_S:
            self._source.hold()
            self._last_poll = time.monotonic()
            self._set_held(held=True)

    def _set_held(self, *, held: bool) -> None:
        if held is not self._held:
            self._held = held
            self._metrics.paused(held)

    def _hand_over(self, waiting: Waiting) -> None:
        with self._idle:
            self._in_flight += 1
            self._unfinished += waiting.ticks
        self._outgoing.put(waiting)

    def decide(self, raw: RawBatch) -> Waiting:
        """Compute the features of a batch, ask the model, and decide each of its ticks in order."""
        polled_s, start_ns = time.monotonic(), time.perf_counter_ns()
        batch, left_ns = self._prepare(raw)
        asked_ns = time.perf_counter_ns()
        asked = batch.shed < 0
        prediction, failure = self._ask(batch, asked, left_ns)
        answered_ns = time.perf_counter_ns()
        timing = Timing(
            raw.received_ns, (asked_ns - start_ns) / 1e3, (answered_ns - asked_ns) / 1e3, self._clock.now_ns()
        )
        self._take_inputs(batch)
        trading_state, quotas = self._states.trading_state(), self._quotas(batch)
        decided = self._judge.decide(batch, prediction, failure, timing, trading_state, quotas)
        if self._tracer is not None:
            traces_of(batch, decided, timing, self._trace_ids, self._tracer)
        waiting = Waiting(len(raw), polled_s, {}, [], counted=True)
        for part in batch.slices:
            self._put(part, decided, waiting)
        queue_s = (raw.received_ns - min(part.sent_ns[0] for part in raw.slices)) / 1e9
        self._metrics.batch(len(raw), queue_s, timing.features_us / 1e6, int(np.count_nonzero(asked)))
        decide_s = (time.perf_counter_ns() - answered_ns) / 1e9
        self._metrics.decided(outcomes(decided), timing.inference_us / 1e6, decide_s)
        return waiting

    def _take_inputs(self, batch: Batch) -> None:
        """What came beside the ticks is taken before them; their decisions say how far."""
        if self._inputs is None:
            return
        for part in batch.slices:
            if part.end > part.begin:
                state = part.state
                found = self._inputs.take(part.raw.partition, state.fills_to, state.control_to)
                if found is not None:
                    state.take(found)

    def _quotas(self, batch: Batch) -> dict[int, float]:
        if self._allowance is None:
            return {}
        return {
            part.raw.partition: self._allowance.quota(part.raw.partition, part.state.book.gross)
            for part in batch.slices
        }

    def _ask(self, batch: Batch, asked: BoolArray, left_ns: Int64Array) -> tuple[Prediction | None, Reason]:
        """The prediction, or why there is none."""
        if not asked.any():
            return None, Reason.DEADLINE
        every = bool(asked.all())
        features = batch.rows.values if every else batch.rows.values[asked]
        longest_ns = int((left_ns if every else left_ns[asked]).max())
        try:
            return self._predictor.predict(features, longest_ns / 1e9), Reason.TARGET
        except PredictorTimeout:
            return None, Reason.PREDICTOR_TIMEOUT
        except InvalidPrediction:
            return None, Reason.PREDICTOR_INVALID
        except PredictionError:
            return None, Reason.PREDICTOR_UNAVAILABLE

    def _prepare(self, raw: RawBatch) -> tuple[Batch, Int64Array]:
        """Decode, admit, compute features and triage; also what is left of each tick's budget."""
        decoded = decode_ticks([payload for part in raw.slices for payload in part.payloads])
        slices: list[Slice] = []
        ticks: list[Tick] = []
        partitions: list[int] = []
        offsets: list[int] = []
        sent_ns: list[int] = []
        at = 0
        for found in raw.slices:
            state = self._state.of(found.partition)
            mine = decoded[at : at + len(found)]
            at += len(found)
            admitted = self._admission.admit_decoded(mine, found.sent_ns, state.features.symbols)
            kept = [i for i, one in enumerate(admitted) if isinstance(one, Tick)]
            letters = [(i, one) for i, one in enumerate(admitted) if isinstance(one, str)]
            begin = len(ticks)
            ticks += [one for one in admitted if isinstance(one, Tick)]
            whole = not letters
            offsets += found.offsets if whole else [found.offsets[i] for i in kept]
            sent_ns += found.sent_ns if whole else [found.sent_ns[i] for i in kept]
            partitions += [found.partition] * len(kept)
            slices.append(Slice(found, state, begin, len(ticks), kept, letters, None))
        together = TickBatch.from_ticks(ticks)
        rows = FeatureRows.empty(together.event_time_ns)
        for k, part in enumerate(slices):
            part.state.observe(together.part(part.begin, part.end), rows.part(part.begin, part.end))
            if self._snapshots.due(part.raw.partition):
                slices[k] = structs.replace(part, features=part.state.dump_features())
        sent = np.array(sent_ns, np.int64)
        left_ns = budgets_left_ns(sent, raw.received_ns, self._clock.now_ns(), self._settings.budget_ns)
        shed = self._triage(slices, together, left_ns)
        places = (np.array(partitions, np.int64), np.array(offsets, np.int64))
        return Batch(slices, together, rows, *places, sent, shed), left_ns

    def _triage(self, slices: list[Slice], ticks: TickBatch, left_ns: Int64Array) -> CodeArray:
        settings = self._settings
        found = [
            triage(
                ticks.symbols[part.begin : part.end],
                left_ns[part.begin : part.end],
                settings.reserve_ns,
                settings.shed_below_ns,
            )
            for part in slices
        ]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _commit_now_and_then(self) -> None:
        now = time.monotonic()
        if now >= self._next_commit:
            self._next_commit = now + COMMIT_EVERY_S
            self._source.commit(self._sink.committable())

    def _put(self, part: Slice, found: Decided, waiting: Waiting) -> None:
        raw, partition = part.raw, part.raw.partition
        next_offset = raw.offsets[-1] + 1
        out = waiting.parts[partition] = Part([], next_offset)
        mine, decisions = slice(part.begin, part.end), Stream.DECISIONS
        out.records += [
            (decisions, key, value) for key, value in zip(found.keys[mine], found.payloads[mine], strict=True)
        ]
        if not self._policy.assumed_fills:
            out.records += self._orders(part, found)
        for i, reason in part.letters:
            trace_id = self._trace_ids.of(partition, raw.offsets[i], raw.traceparents[i])
            place = (self._source.topic, partition, raw.offsets[i])
            letter = dead_letter(*place, reason, raw.keys[i], raw.payloads[i], trace_id)
            out.records.append(letter_record(letter))
        if part.letters:
            self._metrics.dead_letters(len(part.letters))
        if part.features is not None:
            decisions_from = self._sink.decisions_from(partition)
            waiting.snapshots.append(part.state.snapshot(partition, next_offset, decisions_from, part.features))

    def _orders(self, part: Slice, found: Decided) -> list[tuple[Stream, bytes | None, bytes]]:
        """What the broker gets."""
        raw, limits = part.raw, part.state.book.limits
        records: list[tuple[Stream, bytes | None, bytes]] = []
        for k in (part.begin + np.flatnonzero(found.numbers[part.begin : part.end, 0])).tolist():
            i = part.kept[k - part.begin]
            order = NewOrder(
                order_id=f"{self._source.topic}-{raw.partition}-{raw.offsets[i]}",
                number=raw.offsets[i],
                symbol=found.keys[k].decode(),
                quantity=float(found.numbers[k, 0]),
                price=float(found.numbers[k, 1]),
                event_time_ns=int(found.event_time_ns[k]),
                sent_ns=found.decided_at_ns,
                account=limits.account,
                strategy=limits.strategy,
                trace_id=self._trace_ids.of(raw.partition, raw.offsets[i], raw.traceparents[i]),
            )
            records.append((Stream.ORDERS, found.keys[k], encode(order)))
        return records

    # ---- the publishing thread ----------------------------------------------------------------

    def _publish_all(self) -> None:
        try:
            self._publish_until_ended()
        except BaseException as error:  # noqa: BLE001 - handed to run(), which raises it
            self._failure = error
            self._stopping.set()
            with self._idle:
                self._idle.notify_all()

    def _publish_until_ended(self) -> None:
        next_publish = 0.0
        while True:
            self._sink.poll()
            try:
                first = self._outgoing.get(timeout=POLL_S)
            except queue.Empty:
                self._offer_snapshots()
                continue
            if first is None:
                return
            if (left_s := next_publish - time.monotonic()) > 0.0:
                time.sleep(left_s)
            next_publish = time.monotonic() + self._settings.publish_every_s
            together, ended = self._all_that_wait(first)
            self._publish(together)
            if ended:
                return

    def _all_that_wait(self, first: Waiting) -> tuple[list[Waiting], bool]:
        """What can be published now, and whether nothing more will come."""
        together = [first]
        while True:
            try:
                found = self._outgoing.get_nowait()
            except queue.Empty:
                return together, False
            if found is None:
                return together, True
            together.append(found)

    def _publish(self, together: list[Waiting]) -> None:
        start = time.perf_counter()
        outbox: Outbox = {}
        for waiting in together:
            for partition, part in waiting.parts.items():
                whole = outbox.setdefault(partition, Part([], part.next_offset))
                whole.records += part.records
                whole.next_offset = part.next_offset
            self._unsafe += waiting.snapshots
        for partition, part in outbox.items():
            part.records += self._snapshots.take_records(partition)
        self._sink.publish(outbox, self._owned)
        publish_s = time.perf_counter() - start
        self._offer_snapshots()
        now = time.monotonic()
        ticks = [waiting.ticks for waiting in together]
        self._metrics.published(ticks, publish_s, [now - waiting.polled_s for waiting in together])
        with self._idle:
            self._in_flight -= len(together)
            self._unfinished -= sum(ticks)
            self._metrics.unfinished(self._unfinished)
            self._idle.notify_all()
        for waiting in together:
            if waiting.counted:
                self._room.give()

    def _offer_snapshots(self) -> None:
        """A snapshot must not be ahead of what is decided for good."""
        if not self._unsafe:
            return
        with self._unsafe_lock:
            waiting = []
            for snapshot in self._unsafe:
                if self._sink.safe(snapshot.partition) >= snapshot.offset:
                    self._snapshots.offer(snapshot)
                elif self._owned(snapshot.partition):
                    waiting.append(snapshot)
            self._unsafe = waiting[-64:]

    def _owned(self, partition: int) -> bool:
        return partition not in self._abandoned


def outcomes(decided: Decided) -> Outcomes:
    """What is counted of a batch's decisions."""
    counts = np.bincount(decided.kinds, minlength=len(KINDS)).tolist()
    kinds = {KINDS[k]: count for k, count in enumerate(counts) if count}
    return Outcomes(kinds, decided.broken, decided.total_s)


def letter_record(letter: DeadLetter) -> tuple[Stream, bytes | None, bytes]:
    """A dead letter, keyed as its message was."""
    key = None if letter.key is None else letter.key.encode()
    return Stream.DEAD_LETTERS, key, encode(letter)

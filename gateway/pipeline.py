"""A tick's path: poll, decode, features, predict | decide, risk, publish with its offset.

Two threads: one gathers and submits, the other settles in order and publishes. While calls are in
flight nothing is polled, so the next batch gathers by itself: no tick waits for a timer, and load
makes batches larger, not queues longer.
"""

from __future__ import annotations

import queue
import threading
import time

import numpy as np
from msgspec import Struct

from gateway.domain.admission import Admission
from gateway.domain.codec import encode
from gateway.domain.dead_letters import dead_letter
from gateway.domain.decision import DecisionPolicy
from gateway.domain.errors import (
    InvalidPrediction,
    PredictionError,
    PredictorTimeout,
    ServiceUnavailable,
)
from gateway.domain.schemas import DeadLetter, Reason, Tick
from gateway.domain.trace import TraceIds
from gateway.judge import Answers, Judge, Slice, Timing, budgets_left_ns
from gateway.ports import (
    Clock,
    DecisionSink,
    Metrics,
    Outbox,
    Part,
    PendingPrediction,
    Prediction,
    Predictor,
    RawBatch,
    RawSlice,
    Restored,
    SnapshotStore,
    StateStore,
    Stream,
    TickSource,
)
from gateway.state import GatewayState, Snapshot
from gateway.triage import triage

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
        max_in_flight: batches between poll and publication.
        publish_every_s: decisions of batches that come faster are published together.
        variant: name of the experiment's arm.
    """

    budget_ns: int = 50_000_000
    reserve_ns: int = 5_000_000
    shed_below_ns: int = 25_000_000
    max_batch: int = 1024
    max_in_flight: int = 3
    publish_every_s: float = 0.004
    variant: str = "champion"


class Flight(Struct, frozen=True):
    """A batch between submission and settlement; `restored` are letters of a rebuilt partition."""

    slices: list[Slice]
    pending: PendingPrediction | None
    received_ns: int
    polled_s: float
    features_ns: int
    submitted_ns: int
    restored: list[DeadLetter]

    def __len__(self) -> int:
        return sum(len(part.raw) for part in self.slices)


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
        state: GatewayState,
        policy: DecisionPolicy,
        admission: Admission,
        settings: PipelineSettings,
    ) -> None:
        self._source, self._predictor, self._sink = source, predictor, sink
        self._snapshots, self._states, self._clock, self._metrics = snapshots, states, clock, metrics
        self._state, self._admission, self._settings = state, admission, settings
        self._trace_ids = TraceIds(source.topic)
        self._judge = Judge(
            topic=source.topic,
            policy=policy,
            latest_ns=settings.budget_ns - settings.reserve_ns // 2,
            clock=clock,
            trace_ids=self._trace_ids,
            model_name=predictor.model_name,
            variant=settings.variant,
        )
        self._flights: queue.Queue[Flight | None] = queue.Queue(settings.max_in_flight + 1)
        self._room = threading.Semaphore(settings.max_in_flight)
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
        """Gather until stopped, then drain. Raises what the settling thread died of."""
        settler = threading.Thread(target=self._settle_all, name="settle", daemon=True)
        settler.start()
        try:
            while not self._stopping.is_set():
                self.gather()
        finally:
            self._flights.put(None)
            settler.join()
        if self._failure is not None:
            raise self._failure
        self._flush()

    def adopt(self, partition: int, restored: Restored) -> None:
        """Take a rebuilt partition over; called by the gathering thread, before its first tick."""
        self._state.put(partition, restored.state)
        self._sink.begin(partition, restored.next_offset, restored.decisions_from)
        if restored.letters:
            self._room.acquire()
            self._launch(Flight([], None, self._clock.now_ns(), time.monotonic(), 0, 0, restored.letters))

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
        self._unsafe = [s for s in self._unsafe if s.partition not in partitions]

    def _flush(self) -> None:
        self._sink.flush(DRAIN_S)
        self._source.commit(self._sink.committable(), wait=True)

    def _wait_until_idle(self) -> None:
        with self._idle:
            idle = self._idle.wait_for(lambda: self._in_flight == 0 or self._failure is not None, DRAIN_S)
        if not idle:
            raise ServiceUnavailable(f"{self._in_flight} batches were still in flight after {DRAIN_S:.0f} s")

    # ---- the gathering thread -----------------------------------------------------------------

    def gather(self) -> None:
        """One turn: poll what has arrived, compute its features, submit it."""
        self._commit_now_and_then()
        if not self._room.acquire(timeout=POLL_S):
            self._stay_in_group()
            return
        self._set_held(held=False)
        self._last_poll = self._last_room = time.monotonic()
        raw = self._source.poll(self._settings.max_batch, POLL_S)
        if raw is None:
            self._room.release()
            return
        self._launch(self._submit(raw))

    def _stay_in_group(self) -> None:
        if time.monotonic() - self._last_room > HOLD_AFTER_S:
            self._source.hold()
            self._last_poll = time.monotonic()
            self._set_held(held=True)

    def _set_held(self, *, held: bool) -> None:
        if held is not self._held:
            self._held = held
            self._metrics.paused(held)

    def _launch(self, flight: Flight) -> None:
        with self._idle:
            self._in_flight += 1
            self._unfinished += len(flight)
        self._flights.put(flight)

    def _submit(self, raw: RawBatch) -> Flight:
        polled_s, start_ns = time.monotonic(), time.perf_counter_ns()
        slices: list[Slice] = []
        row, longest_ns = 0, 0
        for found in raw.slices:
            part, left_ns = self._prepare(found, raw.received_ns, row)
            slices.append(part)
            asked = [left for left, shed in zip(left_ns, part.shed, strict=True) if shed is None]
            row += len(asked)
            longest_ns = max(longest_ns, *asked) if asked else longest_ns
        pending = None
        if row:
            features = np.concatenate([asked_rows(part) for part in slices])
            pending = self._predictor.submit(features, longest_ns / 1e9)
        features_ns = time.perf_counter_ns() - start_ns
        queue_s = (raw.received_ns - min(min(part.sent_ns) for part in raw.slices)) / 1e9
        self._metrics.batch(len(raw), queue_s, features_ns / 1e9, row)
        return Flight(slices, pending, raw.received_ns, polled_s, features_ns, time.perf_counter_ns(), [])

    def _prepare(self, raw: RawSlice, received_ns: int, first_row: int) -> tuple[Slice, list[int]]:
        state = self._state.of(raw.partition)
        admitted = self._admission.admit_all(raw.payloads, raw.sent_ns, state.features.symbols)
        kept = [i for i, found in enumerate(admitted) if isinstance(found, Tick)]
        ticks = [found for found in admitted if isinstance(found, Tick)]
        letters = [(i, found) for i, found in enumerate(admitted) if isinstance(found, str)]
        rows = state.observe(ticks)
        settings = self._settings
        left_ns = budgets_left_ns(raw, kept, received_ns, self._clock.now_ns(), settings.budget_ns)
        shed = triage(ticks, left_ns, settings.reserve_ns, settings.shed_below_ns)
        copy = state.dump_features() if self._snapshots.due(raw.partition) else None
        return Slice(raw, state, kept, ticks, letters, rows, shed, first_row, copy), left_ns

    def _commit_now_and_then(self) -> None:
        now = time.monotonic()
        if now >= self._next_commit:
            self._next_commit = now + COMMIT_EVERY_S
            self._source.commit(self._sink.committable())

    # ---- the settling thread ------------------------------------------------------------------

    def _settle_all(self) -> None:
        try:
            self._settle_until_stopped()
        except BaseException as error:  # noqa: BLE001 - handed to run(), which raises it
            self._failure = error
            self._stopping.set()
            with self._idle:
                self._idle.notify_all()

    def _settle_until_stopped(self) -> None:
        settled: list[Flight] = []
        outbox: Outbox = {}
        next_publish = 0.0
        while True:
            left_s = next_publish - time.monotonic() if settled else POLL_S
            flight, stopped = self._next_flight(left_s)
            if settled and (flight is None or not flight_ready(flight, next_publish - time.monotonic())):
                next_publish = time.monotonic() + self._settings.publish_every_s
                self._publish(outbox, settled)
                settled, outbox = [], {}
            if flight is not None:
                self.settle(flight, outbox)
                settled.append(flight)
            elif stopped:
                return

    def _next_flight(self, timeout_s: float) -> tuple[Flight | None, bool]:
        """The next flight, and whether there will be no more."""
        self._sink.poll()
        try:
            flight = self._flights.get(timeout=timeout_s) if timeout_s > 0 else self._flights.get_nowait()
        except queue.Empty:
            return None, False
        return flight, flight is None

    def settle(self, flight: Flight, outbox: Outbox) -> None:
        """Wait for a batch's inference, decide each of its ticks in order, put all in the outbox."""
        prediction, failure = outcome(flight.pending)
        inference_ns = time.perf_counter_ns() - flight.submitted_ns
        version = flight.pending.model_version if flight.pending is not None else ""
        answers = Answers.of(prediction, failure, version)
        started = time.perf_counter()
        timing = Timing(flight.received_ns, flight.features_ns / 1e3, inference_ns / 1e3, self._clock.now_ns())
        trading_state = self._states.trading_state()
        for letter in flight.restored:
            part = outbox.setdefault(letter.partition, Part([], letter.offset + 1))
            part.records.append(letter_record(letter))
        decisions = []
        for part_in in flight.slices:
            if part_in.raw.partition not in self._abandoned:
                found = self._judge.decide_slice(part_in, answers, timing, trading_state)
                self._put(part_in, [encode(d) for d in found], outbox)
                decisions += found
        self._metrics.settled(decisions, inference_ns / 1e9, time.perf_counter() - started)

    def _put(self, part: Slice, encoded: list[bytes], outbox: Outbox) -> None:
        raw, partition = part.raw, part.raw.partition
        next_offset = raw.offsets[-1] + 1
        out = outbox.setdefault(partition, Part([], next_offset))
        out.next_offset = next_offset
        decisions = Stream.DECISIONS
        out.records += [
            (decisions, tick.symbol.encode(), value) for tick, value in zip(part.ticks, encoded, strict=True)
        ]
        for i, reason in part.letters:
            trace_id = self._trace_ids.of(partition, raw.offsets[i], raw.traceparents[i])
            place = (self._source.topic, partition, raw.offsets[i])
            letter = dead_letter(*place, reason, raw.keys[i], raw.payloads[i], trace_id)
            out.records.append(letter_record(letter))
        if part.letters:
            self._metrics.dead_letters(len(part.letters))
        if part.features is not None:
            decisions_from = self._sink.decisions_from(partition)
            self._unsafe.append(part.state.snapshot(partition, next_offset, decisions_from, part.features))

    def _publish(self, outbox: Outbox, flights: list[Flight]) -> None:
        start = time.perf_counter()
        for partition, part in outbox.items():
            part.records += self._snapshots.take_records(partition)
        self._sink.publish(outbox, self._owned)
        publish_s = time.perf_counter() - start
        self._offer_snapshots()
        now = time.monotonic()
        ticks = sum(map(len, flights))
        self._metrics.published(ticks, publish_s, [now - f.polled_s for f in flights])
        with self._idle:
            self._in_flight -= len(flights)
            self._unfinished -= ticks
            self._metrics.unfinished(self._unfinished)
            self._idle.notify_all()
        for _ in flights:
            self._room.release()

    def _offer_snapshots(self) -> None:
        """A snapshot must not be ahead of what is decided for good."""
        waiting = []
        for snapshot in self._unsafe:
            if self._sink.safe(snapshot.partition) >= snapshot.offset:
                self._snapshots.offer(snapshot)
            elif self._owned(snapshot.partition):
                waiting.append(snapshot)
        self._unsafe = waiting[-64:]

    def _owned(self, partition: int) -> bool:
        return partition not in self._abandoned


def asked_rows(part: Slice) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The rows of a slice that are sent for inference."""
    if not any(part.shed):
        return part.rows.values
    return part.rows.values[[shed is None for shed in part.shed]]


def letter_record(letter: DeadLetter) -> tuple[Stream, bytes | None, bytes]:
    """A dead letter, keyed as its message was."""
    key = None if letter.key is None else letter.key.encode()
    return Stream.DEAD_LETTERS, key, encode(letter)


def flight_ready(flight: Flight, within_s: float) -> bool:
    """Whether a flight can be settled at once, after at most so long."""
    return flight.pending is None or flight.pending.wait(max(0.0, within_s))


def outcome(pending: PendingPrediction | None) -> tuple[Prediction | None, Reason]:
    """The prediction, or why there is none."""
    if pending is None:
        return None, Reason.DEADLINE
    try:
        return pending.result(), Reason.TARGET
    except PredictorTimeout:
        return None, Reason.PREDICTOR_TIMEOUT
    except InvalidPrediction:
        return None, Reason.PREDICTOR_INVALID
    except PredictionError:
        return None, Reason.PREDICTOR_UNAVAILABLE

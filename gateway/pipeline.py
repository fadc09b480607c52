"""A tick's path: poll, decode, features, predict | decide, risk, publish, note the offset.

Two threads: one gathers and submits, the other settles in order. While two calls are in flight
nothing is polled, so the next batch gathers by itself: no tick waits for a timer, and load makes
batches larger, not queues longer.
"""

from __future__ import annotations

import queue
import threading
import time

import numpy as np
from msgspec import Struct

from gateway.domain.admission import admit_all
from gateway.domain.dead_letters import dead_letter
from gateway.domain.decision import DecisionPolicy, Judged, Market, decide
from gateway.domain.errors import (
    InvalidPrediction,
    PredictionError,
    PredictorTimeout,
    ServiceUnavailable,
)
from gateway.domain.features import FeatureRows
from gateway.domain.schemas import (
    Action,
    Decision,
    Int64Array,
    Reason,
    StageTimes,
    Tick,
    TickBatch,
    TradingState,
)
from gateway.offsets import OffsetTracker
from gateway.ports import (
    Clock,
    DecisionSink,
    Metrics,
    PendingPrediction,
    Prediction,
    Predictor,
    RawBatch,
    StateStore,
    TickSource,
)
from gateway.state import GatewayState

POLL_S = 0.05
COMMIT_EVERY_S = 0.1
DRAIN_S = 30.0


class PipelineSettings(Struct, frozen=True):
    """Budget: from sending a tick to deciding it. Beyond it a tick is held, never traded late."""

    budget_ns: int = 50_000_000
    max_batch: int = 1024
    max_in_flight: int = 2
    variant: str = "champion"


class Flight(Struct, frozen=True):
    """A batch between submission and settlement. `asked` are the rows that were sent for inference."""

    raw: RawBatch
    kept: list[int]
    ticks: list[Tick]
    rows: FeatureRows
    asked: Int64Array
    pending: PendingPrediction | None
    features_ns: int
    submitted_ns: int


class Pipeline:
    """Runs until `stop`; what was read is then settled, delivered and committed."""

    def __init__(
        self,
        source: TickSource,
        predictor: Predictor,
        sink: DecisionSink,
        states: StateStore,
        clock: Clock,
        metrics: Metrics,
        state: GatewayState,
        tracker: OffsetTracker,
        policy: DecisionPolicy,
        settings: PipelineSettings,
    ) -> None:
        self._source, self._predictor, self._sink = source, predictor, sink
        self._states, self._clock, self._metrics = states, clock, metrics
        self._state, self._tracker = state, tracker
        self._policy, self._settings = policy, settings
        self._flights: queue.Queue[Flight | None] = queue.Queue()
        self._room = threading.Semaphore(settings.max_in_flight)
        self._idle = threading.Condition()
        self._in_flight = 0
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._next_commit = 0.0
        self._abandoned: set[int] = set()

    def stop(self) -> None:
        """Ask for a drain; safe from a signal handler."""
        self._stopping.set()

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
        self._sink.flush(DRAIN_S)
        self._source.commit(self._tracker.committable(), wait=True)

    def drain(self) -> None:
        """Settle and deliver every batch in flight: a partition is about to leave.

        Raises:
            ServiceUnavailable: it took too long; the partition's state must not be trusted then.
        """
        self._wait_until_idle()
        if self._failure is None:
            self._sink.flush(DRAIN_S)
            self._source.commit(self._tracker.committable(), wait=True)

    def abandon(self, partitions: list[int]) -> None:
        """Another gateway owns them already: what is in flight of them must not be published."""
        self._abandoned.update(partitions)
        self._wait_until_idle()
        self._abandoned.difference_update(partitions)

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
            return
        raw = self._source.poll(self._settings.max_batch, POLL_S)
        if raw is None:
            self._room.release()
            return
        with self._idle:
            self._in_flight += 1
        try:
            self._tracker.reading(raw.partitions, raw.offsets)
            flight = self._submit(raw)
        except BaseException:
            self._landed()
            raise
        self._flights.put(flight)

    def _submit(self, raw: RawBatch) -> Flight:
        start_ns = time.perf_counter_ns()
        decoded = admit_all(raw.payloads, raw.sent_ns)
        kept = [i for i, tick in enumerate(decoded) if isinstance(tick, Tick)]
        for i, reason in enumerate(decoded):
            if isinstance(reason, str):
                self._bury(raw, i, reason)
        ticks = [tick for tick in decoded if isinstance(tick, Tick)]
        batch = TickBatch.from_ticks(ticks, [raw.partitions[i] for i in kept])
        rows = self._state.features.update(batch)
        features_ns = time.perf_counter_ns() - start_ns
        now_ns = self._clock.now_ns()
        left = np.array([raw.began_ns(i) for i in kept], np.int64) + self._settings.budget_ns - now_ns
        asked = np.flatnonzero(left > 0)
        pending = None
        if len(asked):
            pending = self._predictor.submit(rows.values[asked], float(left.max()) / 1e9)
        queue_s = (raw.received_ns - min(raw.sent_ns)) / 1e9
        self._metrics.batch(len(raw), queue_s, features_ns / 1e9)
        return Flight(raw, kept, ticks, rows, asked, pending, features_ns, time.perf_counter_ns())

    def _bury(self, raw: RawBatch, i: int, reason: str) -> None:
        place = (self._source.topic, raw.partitions[i], raw.offsets[i])
        self._metrics.dead_letter()
        self._sink.dead_letter(dead_letter(*place, reason, raw.keys[i], raw.payloads[i]))

    def _commit_now_and_then(self) -> None:
        now = time.monotonic()
        if now >= self._next_commit:
            self._next_commit = now + COMMIT_EVERY_S
            self._source.commit(self._tracker.committable())

    # ---- the settling thread ------------------------------------------------------------------

    def _settle_all(self) -> None:
        try:
            while (flight := self._next_flight()) is not None:
                self.settle(flight)
                self._landed()
                self._room.release()
        except BaseException as error:  # noqa: BLE001 - handed to run(), which raises it
            self._failure = error
            self._stopping.set()
            with self._idle:
                self._idle.notify_all()

    def _landed(self) -> None:
        with self._idle:
            self._in_flight -= 1
            self._idle.notify_all()

    def _next_flight(self) -> Flight | None:
        while True:
            self._sink.poll()
            try:
                return self._flights.get(timeout=POLL_S)
            except queue.Empty:
                continue

    def settle(self, flight: Flight) -> None:
        """Wait for a batch's inference, decide each of its ticks in order, publish."""
        prediction, failure = outcome(flight.pending)
        inference_ns = time.perf_counter_ns() - flight.submitted_ns
        start_ns = time.perf_counter_ns()
        row_of = np.full(len(flight.ticks), -1, np.int64)
        row_of[flight.asked] = np.arange(len(flight.asked))
        decisions = self._decide_all(flight, prediction, failure, row_of.tolist(), inference_ns)
        decide_ns = time.perf_counter_ns() - start_ns
        for i, decision in decisions:
            self._sink.decision(flight.raw.partitions[i], flight.raw.offsets[i], decision)
        self._sink.poll()
        self._metrics.settled(
            [d for _, d in decisions], inference_ns / 1e9, decide_ns / 1e9, self._tracker.unfinished()
        )

    def _decide_all(
        self,
        flight: Flight,
        prediction: Prediction | None,
        failure: Reason,
        row_of: list[int],
        inference_ns: int,
    ) -> list[tuple[int, Decision]]:
        state = self._states.trading_state()
        features = flight.rows.values.tolist()
        markets = flight.rows.market.tolist()
        warm = flight.rows.warm.tolist()
        quote_times = flight.rows.quote_time_ns.tolist()
        answers = as_lists(prediction)
        decisions = []
        for k, tick in enumerate(flight.ticks):
            i = flight.kept[k]
            if flight.raw.partitions[i] in self._abandoned:
                continue
            row = row_of[k]
            answer = answers[row] if prediction is not None and row >= 0 else None
            held = self._why_held(flight.raw.began_ns(i), row, answer, failure)
            decision = self._decide_one(
                tick,
                flight,
                i,
                Market(*markets[k]),
                quote_times[k],
                features[k],
                warm[k],
                answer,
                held,
                state,
                inference_ns,
            )
            decisions.append((i, decision))
        return decisions

    def _why_held(self, began_ns: int, row: int, answer: Answer | None, failure: Reason) -> Reason | None:
        if row < 0 or self._clock.now_ns() - began_ns > self._settings.budget_ns:
            return Reason.DEADLINE
        if answer is None:
            return failure
        return None if answer.valid else Reason.PREDICTOR_INVALID

    def _decide_one(
        self,
        tick: Tick,
        flight: Flight,
        i: int,
        market: Market,
        quote_time_ns: int,
        features: list[float],
        warm: bool,
        answer: Answer | None,
        held: Reason | None,
        trading_state: TradingState,
        inference_ns: int,
    ) -> Decision:
        start_ns = time.perf_counter_ns()
        raw = flight.raw
        partition = self._state.of(raw.partitions[i])
        age_ns = partition.clock.advance(tick.event_time_ns)
        # A dead quote feed must not be traded on because trades still arrive.
        age_ns = max(age_ns, partition.clock.age_ns(quote_time_ns))
        book, symbol = partition.book, tick.symbol
        if market.mid == market.mid:
            book.mark(symbol, market.mid)
        before = book.quantity(symbol)
        usable = answer if answer is not None and answer.valid else None
        if held is not None or usable is None:
            judged = Judged(Action.HOLD, held or Reason.PREDICTOR_INVALID)
        else:
            judged = decide(symbol, usable.target, warm, market, age_ns, book, trading_state, self._policy)
        after = before if judged.quantity == 0.0 else round(before + judged.quantity, 10)
        book.set_quantity(symbol, after)
        end_ns = time.perf_counter_ns()
        return Decision(
            decision_id=f"{self._source.topic}-{raw.partitions[i]}-{raw.offsets[i]}",
            symbol=symbol,
            event_time_ns=tick.event_time_ns,
            action=judged.action,
            reason=judged.reason,
            quantity=judged.quantity,
            reference_price=judged.reference_price,
            mid_price=None if market.mid != market.mid else market.mid,
            position_before=before,
            position_after=after,
            target_position=usable.target if usable else None,
            features=features,
            warm=warm,
            regime_probabilities=usable.regimes if usable else [],
            strategy_signals=usable.signals if usable else [],
            strategy_weights=usable.weights if usable else [],
            model_name=self._predictor.model_name,
            model_version=self._predictor.model_version,
            variant=self._settings.variant,
            trading_state=trading_state,
            verdict=judged.verdict,
            stages=StageTimes(
                queue_us=(raw.received_ns - raw.began_ns(i)) / 1e3,
                features_us=flight.features_ns / 1e3,
                inference_us=inference_ns / 1e3,
                decide_us=(end_ns - start_ns) / 1e3,
            ),
            decided_at_ns=self._clock.now_ns(),
        )


class Answer(Struct, frozen=True):
    """The model's answer for one tick, as plain Python."""

    regimes: list[float]
    signals: list[float]
    weights: list[float]
    target: float
    valid: bool


def as_lists(prediction: Prediction | None) -> list[Answer]:
    """Rows as plain Python, converted column by column."""
    if prediction is None:
        return []
    columns = (
        prediction.regime_probabilities.tolist(),
        prediction.strategy_signals.tolist(),
        prediction.strategy_weights.tolist(),
        prediction.target_position.tolist(),
        prediction.valid.tolist(),
    )
    return [Answer(*row) for row in zip(*columns, strict=True)]


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

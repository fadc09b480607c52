"""From a batch's answers to its decisions, tick by tick in the order of the log."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from gateway.domain.decision import DecisionPolicy, Judged, Market, decide
from gateway.domain.features import FeatureRows
from gateway.domain.schemas import Action, Decision, Reason, StageTimes, Tick, TradingState
from gateway.domain.trace import TraceIds
from gateway.ports import Clock, Prediction, RawSlice
from gateway.state import FeatureDump, PartitionState


class Slice(Struct, frozen=True):
    """A partition's part of a flight, between submission and settlement.

    Attributes:
        raw: the messages.
        state: of the partition; this side owns its book and clock.
        kept: positions in `raw` of the messages that are ticks.
        ticks: those ticks.
        letters: positions in `raw` of the others, with the reason.
        rows: features of the ticks.
        shed: why a tick is not sent for inference; None where it is.
        first_row: where the slice's rows begin among those that were sent.
        features: a copy of the feature state after the slice, where a snapshot is due.
    """

    raw: RawSlice
    state: PartitionState
    kept: list[int]
    ticks: list[Tick]
    letters: list[tuple[int, str]]
    rows: FeatureRows
    shed: list[Reason | None]
    first_row: int
    features: FeatureDump | None


class Answers(Struct, frozen=True):
    """A batch's answer as plain Python, converted column by column; or why there is none."""

    failure: Reason
    model_version: str
    regimes: list[list[float]] = []
    signals: list[list[float]] = []
    weights: list[list[float]] = []
    targets: list[float] = []
    valid: list[bool] = []

    @classmethod
    def of(cls, prediction: Prediction | None, failure: Reason, model_version: str) -> Answers:
        """Rows of a prediction."""
        if prediction is None:
            return cls(failure, model_version)
        return cls(
            failure,
            model_version,
            prediction.regime_probabilities.tolist(),
            prediction.strategy_signals.tolist(),
            prediction.strategy_weights.tolist(),
            prediction.target_position.tolist(),
            prediction.valid.tolist(),
        )


class Timing(Struct, frozen=True):
    """What a batch's ticks share of their stage times."""

    received_ns: int
    features_us: float
    inference_us: float
    started_ns: int


class Judge(Struct, frozen=True):
    """What stays the same from batch to batch."""

    topic: str
    policy: DecisionPolicy
    latest_ns: int
    clock: Clock
    trace_ids: TraceIds
    model_name: str
    variant: str

    def decide_slice(
        self, part: Slice, answers: Answers, timing: Timing, trading_state: TradingState
    ) -> list[Decision]:
        """Decide every tick of a slice, and move the book.

        `latest_ns` is the age beyond which an order would come too late; it holds whatever the
        model says.
        """
        raw, state = part.raw, part.state
        book, clock, policy = state.book, state.clock, self.policy
        features, warm = part.rows.values.tolist(), part.rows.warm.tolist()
        markets = part.rows.market.tolist()
        quote_times = part.rows.quote_time_ns.tolist()
        prefix = f"{self.topic}-{raw.partition}-"
        row = part.first_row
        answered = bool(answers.targets)
        decisions = []
        for k, tick in enumerate(part.ticks):
            i = part.kept[k]
            symbol, offset = tick.symbol, raw.offsets[i]
            now_ns = self.clock.now_ns()
            began_ns = min(raw.sent_ns[i], timing.received_ns)
            held = part.shed[k]
            usable, mine = False, row
            if held is None:
                row += 1
                usable = answered and answers.valid[mine]
                if now_ns - began_ns > self.latest_ns:
                    held = Reason.DEADLINE
                elif not usable:
                    held = Reason.PREDICTOR_INVALID if answered else answers.failure
            age_ns = clock.advance(tick.event_time_ns)
            # A dead quote feed must not be traded on because trades still arrive.
            age_ns = max(age_ns, clock.age_ns(quote_times[k]))
            bid, ask, last, mid = markets[k]
            priced = not math.isnan(mid)
            if priced:
                book.mark(symbol, mid)
            before = book.quantity(symbol)
            if held is not None:
                judged = Judged(Action.HOLD, held)
            else:
                market = Market(bid, ask, last, mid)
                judged = decide(symbol, answers.targets[mine], warm[k], market, age_ns, book, trading_state, policy)
            after = before
            if judged.quantity != 0.0:
                after = round(before + judged.quantity, 10)
                book.set_quantity(symbol, after)
            decisions.append(
                Decision(
                    f"{prefix}{offset}",
                    symbol,
                    tick.event_time_ns,
                    judged.action,
                    judged.reason,
                    judged.quantity,
                    judged.reference_price,
                    mid if priced else None,
                    before,
                    after,
                    answers.targets[mine] if usable else None,
                    features[k],
                    warm[k],
                    answers.regimes[mine] if usable else [],
                    answers.signals[mine] if usable else [],
                    answers.weights[mine] if usable else [],
                    self.model_name,
                    answers.model_version,
                    self.variant,
                    trading_state,
                    judged.verdict,
                    StageTimes(
                        (timing.received_ns - began_ns) / 1e3,
                        timing.features_us,
                        timing.inference_us,
                        max(0, now_ns - timing.started_ns) / 1e3,
                    ),
                    now_ns,
                    self.trace_ids.of(raw.partition, offset, raw.traceparents[i]),
                )
            )
        return decisions


def budgets_left_ns(raw: RawSlice, kept: list[int], received_ns: int, now_ns: int, budget_ns: int) -> list[int]:
    """What is left of each tick's budget; no clock that runs ahead or steps back lengthens it."""
    sent = np.array(raw.sent_ns, np.int64)[kept] if kept else np.zeros(0, np.int64)
    left: list[int] = np.minimum(np.minimum(sent, received_ns) + (budget_ns - now_ns), budget_ns).tolist()
    return left

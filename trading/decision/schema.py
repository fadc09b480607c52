"""A decision with its whole evidence, as it is published."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from trading.risk.trading_state import TradingState
from trading.risk.verdict import Verdict


class Action(StrEnum):
    """What is done at a tick."""

    BUY = "buy"
    SELL = "sell"
    HOLD = "hold"


class Reason(StrEnum):
    """Why an action is what it is."""

    TARGET = "target"
    WITHIN_BAND = "within_band"
    WARMING_UP = "warming_up"
    NO_PRICE = "no_price"
    NO_RATE = "no_currency_rate"
    DENIED = "denied"
    DEADLINE = "deadline_exceeded"
    SUPERSEDED = "superseded"
    PREDICTOR_TIMEOUT = "predictor_timeout"
    PREDICTOR_UNAVAILABLE = "predictor_unavailable"
    PREDICTOR_INVALID = "predictor_invalid"


#: Reasons in arrays (int8): the place in `REASONS`; negative is none.
REASONS = tuple(Reason)
CODES = {reason: code for code, reason in enumerate(REASONS)}
#: What an action and its reason may be; a reason's own code is that of a HOLD for it.
KINDS = (
    *((Action.HOLD, reason) for reason in REASONS),
    (Action.BUY, Reason.TARGET),
    (Action.SELL, Reason.TARGET),
)
BUY, SELL = len(REASONS), len(REASONS) + 1


class StageTimes(Struct, frozen=True):
    """Where a tick's time went, in microseconds.

    `queue_us` is from sending to the gateway's poll; `waited_us` is of the inference what an experiment's
    challenger in the same batch took beyond the champion's answer (0 where several were asked: nobody knows whose).
    """

    queue_us: float
    features_us: float
    inference_us: float
    decide_us: float
    waited_us: float = 0.0


class Decision(Struct, frozen=True):
    """What was decided for one tick, with its whole evidence.

    `decision_id` is the tick's topic-partition-offset, so that a consumer can drop a repeat.
    `trace_id` is that of the tick's `traceparent` header, or one made of the same three.
    `position_after` is what the position is when all orders that work have filled.
    `limits_version` names the limits that it was judged by, and `desk_quota` is the gross exposure that was
    reserved for the book, in money (None where that was not known); `fills_to` and `control_to` are how far the
    book had taken the broker's reports (of its partition; -1 without a broker, where an order counts as
    filled) and the control topic: with these a rebuild takes the same at the same place.
    `experiment` (NAME@OFFSET of the command in the control topic that said how its units are divided) and
    `assigned` (the arm that the tick's unit was given to) are "" outside of experiments; `fallback` says why the
    champion decided a challenger's row, and `variant` is the arm whose model decided.
    Quantities are signed, in units; `target_position` is in [-1, 1] of the position limit.
    The model's outputs are empty when it gave none, `verdict` is None when no order was wanted.
    """

    decision_id: str
    symbol: str
    event_time_ns: int
    action: Action
    reason: Reason
    quantity: float
    reference_price: float | None
    mid_price: float | None
    position_before: float
    position_after: float
    target_position: float | None
    features: list[float]
    warm: bool
    regime_probabilities: list[float]
    strategy_signals: list[float]
    strategy_weights: list[float]
    model_name: str
    model_version: str
    variant: str
    trading_state: TradingState
    verdict: Verdict | None
    stages: StageTimes
    decided_at_ns: int
    trace_id: str = ""
    limits_version: str = ""
    desk_quota: float | None = None
    experiment: str = ""
    assigned: str = ""
    fallback: str = ""
    fills_to: int = -1
    control_to: int = 0

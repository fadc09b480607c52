"""Messages of the live path: frozen values, and the array form of a batch of ticks.

What is made for every tick is left out of garbage collection (`gc=False`): it holds no cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

MAX_SYMBOL_LENGTH = 32
SYMBOL_PATTERN = r"^[A-Za-z0-9._:/-]+$"
Symbol = Annotated[str, Meta(min_length=1, max_length=MAX_SYMBOL_LENGTH, pattern=SYMBOL_PATTERN)]
#: Before 2200: a later time is a unit error, not a tick.
MAX_TIME_NS = 7_258_118_400_000_000_000
#: Nanoseconds since 1970-01-01 UTC.
EventTimeNs = Annotated[int, Meta(gt=0, lt=MAX_TIME_NS)]
#: Far below any traded price: a smaller one is a unit error, and overflows what divides by it.
MIN_PRICE, MAX_PRICE = 1e-9, 1e15
Price = Annotated[float, Meta(ge=MIN_PRICE, lt=MAX_PRICE)]
MAX_SIZE = 1e18
Size = Annotated[float, Meta(ge=0.0, lt=MAX_SIZE)]


class Tick(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One market update. A field that the source does not carry is None, never zero.

    An unknown field is refused: a misspelt price would otherwise be taken as absent.

    Attributes:
        symbol: instrument; also the Kafka key.
        event_time_ns: exchange time, nanoseconds since 1970 UTC.
        bid, ask: best quote, in the instrument's price unit.
        bid_size, ask_size: size at the best quote, in the instrument's quantity unit.
        last, last_size: price and size of the latest trade.
    """

    symbol: Symbol
    event_time_ns: EventTimeNs
    bid: Price | None = None
    ask: Price | None = None
    bid_size: Size | None = None
    ask_size: Size | None = None
    last: Price | None = None
    last_size: Size | None = None


class TickBatch(Struct, frozen=True):
    """Ticks as arrays of length n, in arrival order; NaN is "unknown".

    Attributes:
        symbols: n symbols.
        event_time_ns: int64 [n].
        quotes: float64 [n, 6], columns bid, ask, bid_size, ask_size, last, last_size.
    """

    symbols: tuple[str, ...]
    event_time_ns: Int64Array
    quotes: FloatArray

    def __len__(self) -> int:
        return len(self.symbols)

    def part(self, begin: int, end: int) -> TickBatch:
        """Some of the ticks; the arrays are views."""
        return TickBatch(self.symbols[begin:end], self.event_time_ns[begin:end], self.quotes[begin:end])

    @classmethod
    def from_ticks(cls, ticks: Sequence[Tick]) -> TickBatch:
        """Build the arrays."""
        n = len(ticks)
        quotes = np.array(
            [(t.bid, t.ask, t.bid_size, t.ask_size, t.last, t.last_size) for t in ticks],
            dtype=np.float64,
        ).reshape(n, 6)
        return cls(
            symbols=tuple(t.symbol for t in ticks),
            event_time_ns=np.fromiter((t.event_time_ns for t in ticks), np.int64, n),
            quotes=quotes,
        )


class TradingState(StrEnum):
    """What the desk allows, from all to nothing. Latched: only a human moves it back to ACTIVE."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"
    KILLED = "killed"


def latched_after(before: TradingState | None, told: TradingState) -> TradingState:
    """Only ACTIVE, a human's word, makes a latched state less severe."""
    if before is None or told is TradingState.ACTIVE:
        return told
    return max(before, told, key=SEVERITY.__getitem__)


#: States in arrays and compiled code: how severe each is.
SEVERITY = {state: severity for severity, state in enumerate(TradingState)}
ACTIVE, REDUCING, HALTED, KILLED = SEVERITY.values()


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
ReasonCodes = npt.NDArray[np.int8]


class Outcome(StrEnum):
    """What risk makes of an intent."""

    ACCEPT = "accept"
    CLIP = "clip"
    DENY = "deny"


class RuleResult(Struct, frozen=True, gc=False):
    """One rule's finding. `headroom` = limit - value in the rule's unit; negative means broken."""

    rule: str
    passed: bool
    value: float | None
    limit: float | None
    headroom: float | None


class Verdict(Struct, frozen=True, gc=False):
    """What risk allows: `quantity` is signed, in units, and 0 when denied."""

    outcome: Outcome
    quantity: float
    results: tuple[RuleResult, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of the rules that the intent broke."""
        return tuple(r.rule for r in self.results if not r.passed)


class NewOrder(Struct, frozen=True):
    """An order that risk has accepted, as the broker gets it.

    Attributes:
        order_id: the decision's id.
        number: the tick's offset; grows from one order of a partition to the next.
        symbol: instrument.
        quantity: signed, in units.
        price: reference price, in the instrument's price unit.
        event_time_ns: of the tick.
        sent_ns: wall time of the decision.
        account, strategy: whose.
        trace_id: of the tick.
    """

    order_id: str
    number: int
    symbol: str
    quantity: float
    price: float
    event_time_ns: int
    sent_ns: int
    account: str
    strategy: str
    trace_id: str = ""


class ReportKind(StrEnum):
    """What the broker says of an order."""

    FILL = "fill"
    REJECT = "reject"
    CANCEL = "cancel"


class ExecutionReport(Struct, frozen=True):
    """The broker's word on an order.

    Attributes:
        order_id, number, symbol: of the order.
        sequence: how many reports of the order came before; one that comes again is not taken again.
        kind: fill (a part or the rest), reject (nothing of it), cancel (nothing more of it).
        quantity: signed, of this fill; 0 otherwise.
        price: of this fill, in the instrument's price unit.
        fee: in the instrument's currency.
        left: signed, still working.
        at_ns: wall time.
        reason: of a reject or cancel.
    """

    order_id: str
    number: int
    sequence: int
    symbol: str
    kind: ReportKind
    quantity: float
    price: float
    fee: float
    left: float
    at_ns: int
    reason: str = ""


class StageTimes(Struct, frozen=True):
    """Where a tick's time went, in microseconds. `queue` is from sending to the gateway's poll."""

    queue_us: float
    features_us: float
    inference_us: float
    decide_us: float


class Decision(Struct, frozen=True):
    """What was decided for one tick, with its whole evidence.

    `decision_id` is the tick's topic-partition-offset, so that a consumer can drop a repeat.
    `trace_id` is that of the tick's `traceparent` header, or one made of the same three.
    `position_after` is what the position is when all orders that work have filled.
    `limits_version` names the limits that it was judged by; `fills_to` and `control_to` are how far the
    book had taken the broker's reports (of its partition; -1 without a broker, where an order counts as
    filled) and the control topic: with these a rebuild takes the same at the same place.
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
    fills_to: int = -1
    control_to: int = 0


class DeadLetter(Struct, frozen=True):
    """A message that is no tick: where it lay, why it was refused, and its bytes as text."""

    topic: str
    partition: int
    offset: int
    reason: str
    key: str | None
    payload: str
    payload_bytes: int
    trace_id: str = ""

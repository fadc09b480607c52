"""From a blended target to an order intent to a judged action."""

from __future__ import annotations

import math

from msgspec import Struct

from gateway.domain.position import Book
from gateway.domain.risk import Intent, Limits, assess
from gateway.domain.risk.assess import round_to_lot
from gateway.domain.schemas import Action, Outcome, Reason, TradingState, Verdict


class DecisionPolicy(Struct, frozen=True):
    """How a target becomes an order.

    Attributes:
        limits: risk limits of the book.
        lot: smallest quantity step, in units.
        rebalance_band: orders below this fraction of `max_position_notional` are not sent, so
            that noise in the target does not pay the spread.
    """

    limits: Limits = Limits()
    lot: float = 0.001
    rebalance_band: float = 0.05


class Market(Struct, frozen=True, gc=False):
    """Standing prices of a symbol at its tick; NaN is unknown."""

    bid: float
    ask: float
    last: float
    mid: float

    def reference_price(self, quantity: float) -> float:
        """The touch on the order's far side; the latest trade where the source has no quotes."""
        touch = self.ask if quantity > 0.0 else self.bid
        if math.isnan(self.bid) and math.isnan(self.ask):
            return self.last
        return touch


class Judged(Struct, frozen=True, gc=False):
    """The outcome for one tick; `quantity` is what is to be traded, signed, in units."""

    action: Action
    reason: Reason
    quantity: float = 0.0
    reference_price: float | None = None
    verdict: Verdict | None = None


def decide(
    symbol: str,
    target_position: float,
    warm: bool,
    market: Market,
    age_ns: int,
    book: Book,
    state: TradingState,
    policy: DecisionPolicy,
) -> Judged:
    """Decide one tick: target in [-1, 1] of the position limit, against the current position.

    `age_ns` is that of the tick or of the quote it is judged at, whichever is older.

    Returns a HOLD with its reason where nothing is to be done, and a denied order as a HOLD with
    its verdict. Does not change the book.
    """
    if not warm:
        return Judged(Action.HOLD, Reason.WARMING_UP)
    mid = market.mid
    if not (math.isfinite(mid) and mid > 0.0):
        return Judged(Action.HOLD, Reason.NO_PRICE)
    limits = policy.limits
    position = book.quantity(symbol)
    if not math.isfinite(target_position):
        return Judged(Action.HOLD, Reason.PREDICTOR_INVALID)
    wanted = round_to_lot(target_position * limits.max_position_notional / mid, policy.lot)
    quantity = round(wanted - position, 10)
    if quantity == 0.0 or abs(quantity) * mid < policy.rebalance_band * limits.max_position_notional:
        return Judged(Action.HOLD, Reason.WITHIN_BAND)
    reference = market.reference_price(quantity)
    intent = Intent(
        symbol=symbol,
        quantity=quantity,
        position=position,
        bid=market.bid,
        ask=market.ask,
        reference_price=reference,
        age_ns=age_ns,
        gross_without=book.gross_exposure(without=symbol),
        trading_state=state,
    )
    verdict = assess(intent, limits, policy.lot)
    price = reference if math.isfinite(reference) else None
    if verdict.outcome is Outcome.DENY:
        return Judged(Action.HOLD, Reason.DENIED, 0.0, price, verdict)
    action = Action.BUY if verdict.quantity > 0.0 else Action.SELL
    return Judged(action, Reason.TARGET, verdict.quantity, price, verdict)

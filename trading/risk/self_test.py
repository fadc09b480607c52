"""Proof, for each limit that is set, that it can deny and that it does not deny everything.

Each rule gets a book of its own, in which all other limits are off, an order that it must deny and one
that it must let pass. The book is driven as in trading: by ticks, accepted orders and time. A limit
that nothing feeds, or that can never be reached, fails its proof.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import msgspec
from msgspec import Struct

from trading.portfolio.book import Book
from trading.risk import engine
from trading.risk.calendar import DAY, SECOND, Session, is_open
from trading.risk.limits import Limits, LimitSet, LimitsFile
from trading.risk.model import Order
from trading.risk.trading_state import ACTIVE, HALTED, KILLED
from trading.risk.verdict import Outcome, Verdict

PRICE, CAPITAL = 100.0, 1e6
SYMBOL, OTHER = "PROOF", "OTHER"
#: 2024-01-01, a Monday.
MONDAY_NS = 1_704_067_200 * SECOND
#: What limits may need that does not come with the ticks.
RESERVATIONS = "reservations in Redis"
NEEDS = {"desk_exposure": RESERVATIONS}
#: Rules that no limit turns off.
ALWAYS_ON = frozenset({"valid_values", "lot_size", "kill_switch", "trading_state", "position_limit"})
#: Every other limit is out of the way.
OUT_OF_THE_WAY: dict[str, Any] = {
    "lot": 1e-8, "price_increment": 0.0, "min_quantity": 0.0, "min_notional": 0.0, "max_order_quantity": None,
    "max_order_notional": None, "price_collar": None, "max_staleness_s": None, "duplicate_window_s": None,
    "max_symbol_orders": None, "max_same_way_executions": None, "restricted": False, "long_only": False,
    "max_position_notional": 1e17, "max_concentration": None, "capital": CAPITAL, "max_gross_notional": None,
    "max_net_notional": None, "max_leverage": None, "max_orders": None, "max_drawdown": None,
    "max_daily_loss": None,
    "cooldown_losses": None, "max_value_at_risk": None, "max_desk_notional": None,
}  # fmt: skip


class Proof(Struct, frozen=True):
    """What was shown of a rule.

    Attributes:
        rule: its name.
        scope: "book", or the symbol whose limits differ.
        on: whether its limit is set.
        denied, passed: the two orders, in words; "" where a rule is off.
        problem: why it is not proven; "" where it is.
    """

    rule: str
    scope: str
    on: bool
    denied: str
    passed: str
    problem: str


class Case:
    """A book with one rule on."""

    def __init__(self, name: str, limits: Limits, session: Session | None) -> None:
        kept = {k: v for k, v in msgspec.structs.asdict(limits).items() if k in engine.RULES[name].PARAMETERS}
        self.limits = limits
        if session is not None and name != "session_hours":
            session = Session(timezone=session.timezone, rolls=session.rolls)
        self.book = Book(LimitSet(LimitsFile(session=session, defaults={**OUT_OF_THE_WAY, **kept})))
        self.now_ns, self.number = MONDAY_NS, 0
        self.age_ns = self.tick(PRICE)

    def tick(self, price: float, symbol: str = SYMBOL, after_s: float = 0.0) -> int:
        """A tick so much later; returns the age of its data, in ns."""
        self.now_ns += int(after_s * SECOND)
        self.age_ns = self.book.observe(symbol, self.now_ns, price)
        return self.age_ns

    def order(self, quantity: float, **changes: Any) -> Verdict:
        """What the rules say of an order at the market."""
        price = changes.pop("price", PRICE)
        self.number += 1
        given: dict[str, Any] = {
            "quantity": math.copysign(math.floor(abs(quantity) * 1e8 + 0.5) / 1e8, quantity),
            "price": price, "limit_price": math.nan, "bid": price, "ask": price, "mid": price,
            "number": self.number, "now_ns": self.book.now_ns, "age_ns": self.age_ns, "state": ACTIVE,
            "in_session": bool(is_open(self.book.now_ns, self.book.limits.calendar)), "desk_quota": math.nan,
        }  # fmt: skip
        return self.book.judge(SYMBOL, Order(**{**given, **changes}))

    def accept(self, quantity: float, price: float = PRICE, symbol: str = SYMBOL) -> None:
        """An order that was accepted and filled."""
        self.number += 1
        self.book.accept(symbol, quantity, price, self.number, assumed=True)


Told = tuple[str, Verdict]
#: A rule's two orders: what it must deny, what it must let pass.
Shown = tuple[Told, Told]
Begin = Callable[[], Case]


def number(value: float | None) -> float:
    """A limit that is set."""
    if value is None:
        raise LookupError("it has no limit")
    return value


def valid_values(begin: Begin) -> Shown:
    case = begin()
    return ("buy 1 at an unknown price", case.order(1.0, price=math.nan)), ("buy 1 at 100", case.order(1.0))


def price_increment(begin: Begin) -> Shown:
    case = begin()
    step = case.limits.price_increment
    odd, even = 1000.5 * step, 1000.0 * step
    return (f"buy 1 at {odd:g}", case.order(1.0, price=odd)), (f"buy 1 at {even:g}", case.order(1.0, price=even))


def lot_size(begin: Begin) -> Shown:
    case = begin()
    lot = case.limits.lot
    return (f"buy {1.5 * lot:g}", case.order(1.5 * lot)), (f"buy {2 * lot:g}", case.order(2 * lot))


def minimum_size(begin: Begin) -> Shown:
    case = begin()
    least = max(case.limits.min_quantity, case.limits.min_notional / PRICE)
    return (f"buy {least / 2:g}", case.order(least / 2)), (f"buy {2 * least:g}", case.order(2 * least))


def order_size(begin: Begin) -> Shown:
    case = begin()
    return beyond(case, number(case.limits.max_order_quantity))


def order_notional(begin: Begin) -> Shown:
    case = begin()
    return beyond(case, number(case.limits.max_order_notional) / PRICE)


def price_collar(begin: Begin) -> Shown:
    case = begin()
    far, near = (PRICE * (1 + share * number(case.limits.price_collar)) for share in (1.5, 0.5))
    return (
        (f"buy 1 at {far:g} with a mid of 100", case.order(1.0, price=far, mid=PRICE)),
        (f"buy 1 at {near:g} with a mid of 100", case.order(1.0, price=near, mid=PRICE)),
    )


def stale_data(begin: Begin) -> Shown:
    case, fresh = begin(), begin()
    late_s = number(case.limits.max_staleness_s) + 1.0
    began_ns = case.now_ns
    case.tick(PRICE, OTHER, late_s)
    case.age_ns = case.book.observe(SYMBOL, began_ns, PRICE, case.now_ns)
    return (
        (f"buy 1 on a tick {late_s:g} s behind the stream", case.order(1.0)),
        ("buy 1 on the newest tick", fresh.order(1.0)),
    )


def duplicate_order(begin: Begin) -> Shown:
    case = begin()
    case.accept(1.0)
    denied = case.order(1.0)
    case.tick(PRICE, after_s=2 * number(case.limits.duplicate_window_s))
    return ("buy 1 at 100, twice at once", denied), ("the same after twice the window", case.order(1.0))


def order_rate_symbol(begin: Begin) -> Shown:
    return after_many(begin(), number(begin().limits.max_symbol_orders), [SYMBOL])


def order_rate(begin: Begin) -> Shown:
    return after_many(begin(), number(begin().limits.max_orders), [SYMBOL, OTHER])


def repeated_execution(begin: Begin) -> Shown:
    case, one_less = begin(), begin()
    most = int(number(case.limits.max_same_way_executions))
    for _ in range(most):
        case.accept(1.0)
    for _ in range(most - 1):
        one_less.accept(1.0)
    return (f"buy 1 after {most} buys", case.order(1.0)), (f"buy 1 after {most - 1} buys", one_less.order(1.0))


def kill_switch(begin: Begin) -> Shown:
    case = begin()
    case.accept(1.0)
    return ("sell 1 of 1, killed", case.order(-1.0, state=KILLED)), ("sell 1 of 1, active", case.order(-1.0))


def trading_state(begin: Begin) -> Shown:
    case = begin()
    return ("buy 1, halted", case.order(1.0, state=HALTED)), ("buy 1, active", case.order(1.0))


def restricted_list(begin: Begin) -> Shown:
    case = begin()
    case.accept(1.0)
    return ("buy 1", case.order(1.0)), ("sell 1 of 1", case.order(-1.0))


def long_only(begin: Begin) -> Shown:
    case = begin()
    return ("sell 1 of none", case.order(-1.0)), ("buy 1", case.order(1.0))


def session_hours(begin: Begin) -> Shown:
    case = begin()
    times = [MONDAY_NS + k * 15 * 60 * SECOND for k in range(14 * 96)]
    calendar = case.book.limits.calendar
    closed = next((t for t in times if not is_open(t, calendar)), None)
    opened = next((t for t in times if is_open(t, calendar) and (closed is None or t > closed)), None)
    if closed is None or opened is None:
        raise LookupError("two weeks have no hour that is " + ("closed" if closed is None else "open"))
    case.tick(PRICE, after_s=(closed - case.now_ns) / SECOND)
    denied = case.order(1.0)
    case.tick(PRICE, after_s=(opened - case.now_ns) / SECOND)
    return ("buy 1 while it is closed", denied), ("buy 1 while it is open", case.order(1.0))


def position_limit(begin: Begin) -> Shown:
    case = begin()
    return beyond(case, case.limits.max_position_notional / PRICE)


def concentration(begin: Begin) -> Shown:
    case = begin()
    return beyond(case, number(case.limits.max_concentration) * CAPITAL / PRICE)


def gross_exposure(begin: Begin) -> Shown:
    case = begin()
    return beyond(case, number(case.limits.max_gross_notional) / PRICE)


def net_exposure(begin: Begin) -> Shown:
    case = begin()
    return beyond(case, number(case.limits.max_net_notional) / PRICE)


def leverage(begin: Begin) -> Shown:
    case = begin()
    return beyond(case, number(case.limits.max_leverage) * CAPITAL / PRICE)


def drawdown(begin: Begin) -> Shown:
    share = number(begin().limits.max_drawdown)
    return (
        (
            f"buy 1 after a fall of {share * 1.2:.2%} and a recovery",
            lost(begin(), 1.2 * share * CAPITAL, recovers=True),
        ),
        (f"buy 1 after a fall of {share * 0.8:.2%}", lost(begin(), 0.8 * share * CAPITAL)),
    )


def daily_loss(begin: Begin) -> Shown:
    most = number(begin().limits.max_daily_loss)
    return (
        (f"buy 1 after losing {most * 1.2:,.6g} today", lost(begin(), 1.2 * most)),
        (f"buy 1 on the day after losing {most * 1.2:,.6g}", lost(begin(), 1.2 * most, then_s=DAY / SECOND)),
    )


def cooldown(begin: Begin) -> Shown:
    case = begin()
    for _ in range(int(number(case.limits.cooldown_losses))):
        case.accept(1.0)
        case.accept(-1.0, 0.99 * PRICE)
    denied = case.order(1.0)
    case.tick(PRICE, after_s=case.limits.cooldown_s)
    return (
        (f"buy 1 after {case.limits.cooldown_losses} losing trades", denied),
        (f"buy 1 {case.limits.cooldown_s:g} s later", case.order(1.0)),
    )


def value_at_risk(begin: Begin) -> Shown:
    case = begin()
    for k in range(case.limits.var_min_bars + 1):
        case.tick(PRICE * (1.01 if k % 2 else 1.0), after_s=case.limits.var_interval_s)
    # A bar moves by one percent: this much of the book loses the limit in one.
    units = number(case.limits.max_value_at_risk) / (0.01 * PRICE)
    large, small = 100.0 * units, units / 100.0
    return (f"buy {large:,.6g}", case.order(large)), (f"buy {small:,.6g}", case.order(small))


def desk_exposure(begin: Begin) -> Shown:
    case = begin()
    return (
        ("buy 11 with 1,000 reserved", case.order(11.0, desk_quota=1000.0)),
        ("buy 9 with 1,000 reserved", case.order(9.0, desk_quota=1000.0)),
    )


def beyond(case: Case, units: float) -> Shown:
    """A hundredth more than a size, and less."""
    return (f"buy {units * 1.01:,.6g}", case.order(units * 1.01)), (
        f"buy {units * 0.99:,.6g}",
        case.order(units * 0.99),
    )


def after_many(case: Case, most: float, symbols: list[str]) -> Shown:
    """One order more than the rate allows, and one after the window."""
    for k in range(int(most)):
        case.accept(1.0, symbol=symbols[k % len(symbols)])
    denied = case.order(1.0)
    window_s = case.limits.order_window_s
    case.tick(PRICE, after_s=window_s)
    return (f"buy 1 after {most:g} orders", denied), (f"buy 1 {window_s:g} s later", case.order(1.0))


def lost(case: Case, money: float, *, recovers: bool = False, then_s: float = 0.0) -> Verdict:
    """Buy 1 after a position has lost so much, unrealised."""
    units = 2.0 * max(CAPITAL, money) / PRICE
    case.accept(units)
    case.tick(PRICE - money / units)
    if recovers or then_s:
        case.tick(PRICE if recovers else PRICE - money / units, after_s=then_s)
    return case.order(1.0, price=float(case.book.line(SYMBOL).mark))


PROOFS: dict[str, Callable[[Begin], Shown]] = {
    f.__name__: f
    for f in (
        valid_values, price_increment, lot_size, minimum_size, order_size, order_notional, price_collar, stale_data,
        duplicate_order, order_rate_symbol, order_rate, repeated_execution, kill_switch, trading_state,
        restricted_list, long_only, session_hours, position_limit, concentration, gross_exposure, net_exposure,
        leverage, drawdown, daily_loss, cooldown, value_at_risk, desk_exposure,
    )
}  # fmt: skip


def prove_all(limits: LimitSet, fed: Collection[str] = (RESERVATIONS,)) -> list[Proof]:
    """A proof for each rule of the book, and for each symbol whose limits differ.

    Args:
        limits: of the book.
        fed: what reaches the rules beside ticks.
    """
    found = []
    scopes = {"": limits.book, **{symbol: limits.of(symbol) for symbol in limits.file.symbols}}
    for name in engine.NAMES:
        shown: set[tuple[Any, ...]] = set()
        for symbol, of in scopes.items():
            own = tuple(getattr(of, p, None) for p in engine.RULES[name].PARAMETERS)
            if own not in shown:
                shown.add(own)
                found.append(prove(name, symbol or "book", of, limits, fed))
        if name == "valid_values":
            found += [proof for symbol in scopes if symbol and (proof := unpriced(symbol, limits)) is not None]
    return found


def unpriced(symbol: str, limits: LimitSet) -> Proof | None:
    """A symbol whose currency nobody gives a rate for can only be denied."""
    if not math.isnan(limits.rate(symbol)):
        return None
    currency = limits.of(symbol).currency
    return Proof("valid_values", symbol, True, "", "", f"there is no rate for {currency} in {limits.file.currency}")


def prove(name: str, scope: str, limits: Limits, of: LimitSet, fed: Collection[str]) -> Proof:
    """Show one rule's two orders."""
    session = of.file.session
    if not is_on(name, limits, session):
        return Proof(name, scope, False, "", "", "")
    if name in NEEDS and NEEDS[name] not in fed:
        setting = engine.RULES[name].PARAMETERS[0]
        return Proof(name, scope, True, "", "", f"{setting} is set, but nothing feeds it: {NEEDS[name]}")
    try:
        (what, denied), (other, passed) = PROOFS[name](lambda: Case(name, limits, session))
    except LookupError as error:
        return Proof(name, scope, True, "", "", str(error))
    problem = ""
    if denied.outcome is Outcome.ACCEPT or name not in denied.broken:
        problem = f"it can never deny: {what} is let through"
    elif passed.outcome is not Outcome.ACCEPT:
        problem = f"it lets nothing pass: {other} is denied by {', '.join(passed.broken)}"
    return Proof(
        name, scope, True, f"{what}: {describe(denied, name)}", f"{other}: {describe(passed, name)}", problem
    )


def describe(verdict: Verdict, name: str) -> str:
    """The outcome, and the rule's numbers if it has any."""
    result = next(r for r in verdict.results if r.rule == name)
    if result.value is None or result.limit is None:
        return str(verdict.outcome)
    return f"{verdict.outcome} ({result.value:,.6g} of {result.limit:,.6g})"


def is_on(name: str, limits: Limits, session: Session | None) -> bool:
    """Whether the rule's limit is set."""
    if name in ALWAYS_ON:
        return True
    if name == "session_hours":
        every = Session()
        hours = (every.opens, every.closes, every.days, every.holidays)
        return session is not None and (session.opens, session.closes, session.days, session.holidays) != hours
    if name == "minimum_size":
        return limits.min_quantity > 0.0 or limits.min_notional > 0.0
    return bool(getattr(limits, engine.RULES[name].PARAMETERS[0]))

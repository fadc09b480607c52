"""Limits as data: what one symbol of one book may do, and how accounts, strategies and symbols refine it.

A limit that is not given is off. Every level may give any limit of a symbol; the most specific level
that gives one wins, in this order: `defaults`, the account, the strategy, the symbol. What holds for a
whole book cannot be given for a symbol.
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from statistics import NormalDist
from typing import Annotated, Any, Literal, Self

import msgspec
import numpy as np
from msgspec import Meta, Struct

from trading.errors import ConfigurationError
from trading.records import record_type, table
from trading.risk.calendar import Calendar, Session, compile_session

#: What the rings hold at most: a limit that counts cannot be larger.
MOST_SYMBOL_ORDERS, MOST_ORDERS, MOST_LOSSES = 64, 2048, 16
#: Returns that value at risk looks back on.
BARS = 256

Positive = Annotated[float, Meta(gt=0.0, lt=1e18)]
Amount = Annotated[float, Meta(ge=0.0, lt=1e18)]
Share = Annotated[float, Meta(gt=0.0, le=1.0)]
Seconds = Annotated[float, Meta(gt=0.0, le=1e7)]


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for one symbol of one book. Money is in the account's currency; None is off.

    Attributes:
        currency: of the symbol's price and fees; "" is the account's.
        price_increment: prices are multiples of it; 0 is any.
        lot: quantities are multiples of it, in units.
        min_quantity: smallest order, in units.
        min_notional: smallest order, in money.
        max_order_quantity: largest order, in units.
        max_order_notional: largest order, in money.
        price_collar: largest abs(order's price - mid) / mid.
        max_staleness_s: oldest data that an order may rest on.
        duplicate_window_s: the same side, quantity and price is not sent twice within.
        max_symbol_orders: orders of the symbol within `order_window_s`.
        order_window_s: of both order rates.
        max_same_way_executions: buys, or sells, of a symbol in a row, after which a human must look.
        restricted: only exits.
        long_only: no position below zero.
        max_position_notional: largest abs(position and working orders) x price, in money.
        max_concentration: largest share of one symbol in the greater of gross exposure and equity.
        capital: equity at the start, in money.
        max_gross_notional: sum over symbols of the exposures, in money.
        max_net_notional: abs of the sum of the signed exposures, in money.
        max_leverage: gross exposure / equity.
        max_orders: orders of the book within `order_window_s`.
        max_drawdown: largest fall of equity below its high-water mark, as a share of that; latched.
        max_daily_loss: largest fall of equity since the session began, in money; latched until the next.
        cooldown_losses: trades with a loss within `cooldown_window_s` after which there is a pause.
        cooldown_window_s: for how long a loss counts.
        cooldown_s: how long the pause is.
        cooldown_scope: what pauses: the symbol, its losing side, or all symbols.
        max_value_at_risk: largest loss over one bar at `var_confidence`, in money.
        var_method: parametric (normal, zero mean) or historical.
        var_confidence: of value at risk.
        var_interval_s: length of a bar, in event time.
        var_min_bars: with fewer bars of a symbol its risk is not known.
        halted_allows_exits: whether HALTED lets an order through that only shrinks a position.
        max_desk_notional: gross exposure of all books of the desk, in money, reserved in Redis.
    """

    currency: Annotated[str, Meta(pattern=r"^([A-Z0-9]{2,10})?$")] = ""
    price_increment: Amount = 0.0
    lot: Positive = 0.001
    min_quantity: Amount = 0.0
    min_notional: Amount = 0.0
    max_order_quantity: Positive | None = 1e9
    max_order_notional: Positive | None = 50_000.0
    price_collar: Share | None = 0.05
    max_staleness_s: Seconds | None = 5.0
    duplicate_window_s: Seconds | None = 0.05
    max_symbol_orders: Annotated[int, Meta(ge=1, le=MOST_SYMBOL_ORDERS)] | None = None
    order_window_s: Seconds = 1.0
    max_same_way_executions: Annotated[int, Meta(ge=1)] | None = None
    restricted: bool = False
    long_only: bool = False
    max_position_notional: Positive = 100_000.0
    max_concentration: Share | None = 0.25
    capital: Positive = 2_000_000.0
    max_gross_notional: Positive | None = 1_000_000.0
    max_net_notional: Positive | None = None
    max_leverage: Positive | None = 2.0
    max_orders: Annotated[int, Meta(ge=1, le=MOST_ORDERS)] | None = None
    max_drawdown: Share | None = 0.2
    max_daily_loss: Positive | None = None
    cooldown_losses: Annotated[int, Meta(ge=1, le=MOST_LOSSES)] | None = None
    cooldown_window_s: Seconds = 3600.0
    cooldown_s: Seconds = 600.0
    cooldown_scope: Literal["symbol", "side", "all"] = "symbol"
    max_value_at_risk: Positive | None = None
    var_method: Literal["parametric", "historical"] = "parametric"
    var_confidence: Annotated[float, Meta(ge=0.5, lt=1.0)] = 0.99
    var_interval_s: Seconds = 1.0
    var_min_bars: Annotated[int, Meta(ge=2, le=BARS)] = 30
    halted_allows_exits: bool = False
    max_desk_notional: Positive | None = None


#: What holds for the whole book.
BOOK_LEVEL = frozenset(
    {
        "capital", "max_gross_notional", "max_net_notional", "max_leverage", "max_orders", "order_window_s",
        "max_drawdown", "max_daily_loss", "max_value_at_risk", "var_method", "var_confidence", "var_interval_s",
        "max_desk_notional",
    }
)  # fmt: skip
#: Of these a book gets its share: books are decided independently of one another.
SHARED = frozenset(
    {"capital", "max_gross_notional", "max_net_notional", "max_orders", "max_daily_loss", "max_value_at_risk"}
)
#: Not numbers.
_WORDS = frozenset({"currency"})
Level = dict[str, Any]
#: The quantile of the standard normal distribution goes with its confidence.
LIMITS = record_type(Limits, without=_WORDS, more=("var_quantile",))
_FIELDS = {field.name: field for field in msgspec.structs.fields(Limits)}


class LimitRow:
    """The limits of a symbol as compiled code reads them: the names of `Limits`; infinite is off."""

    def __getattr__(self, name: str) -> float:
        raise AttributeError(name)  # for type checkers: records of LIMITS have these as fields


class LimitsFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of limits; `ultrathink risk schema` prints its JSON schema.

    Attributes:
        version: of the format.
        currency: of the account: what money is counted in.
        rates: value of one unit of another currency in the account's. Without one its symbols are denied.
        session: trading days and hours; without it every hour is open and a day begins at midnight UTC.
        defaults, accounts, strategies, symbols: limits by level.
    """

    version: Literal[1] = 1
    currency: Annotated[str, Meta(pattern=r"^[A-Z0-9]{2,10}$")] = "USD"
    rates: dict[str, Positive] = {}
    session: Session | None = None
    defaults: Level = {}
    accounts: dict[str, Level] = {}
    strategies: dict[str, Level] = {}
    symbols: dict[str, Level] = {}


class LimitSet:
    """The limits of one book: of an account and a strategy, with its share of what is divided among books."""

    def __init__(
        self, file: LimitsFile | None = None, account: str = "desk", strategy: str = "", books: int = 1
    ) -> None:
        """Resolve.

        Args:
            file: of limits; None takes the defaults.
            account, strategy: whose.
            books: how many books share the account's capital and limits.

        Raises:
            ConfigurationError: the levels together are no limits.
        """
        self.file = file or LimitsFile()
        self.account, self.strategy, self.books = account, strategy, books
        self._base = {
            **self.file.defaults,
            **self.file.accounts.get(account, {}),
            **self.file.strategies.get(strategy, {}),
        }
        self._known: dict[str, tuple[Limits, float]] = {}
        self.book = self.of("")

    def whole(self) -> Self:
        """Every symbol and the calendar resolved. Raises ConfigurationError."""
        for symbol in self.file.symbols:
            self.record(symbol)
        self.calendar  # noqa: B018 - made at the first look
        return self

    def encode(self) -> bytes:
        """As `decode` takes it."""
        return msgspec.json.encode((self.file, self.account, self.strategy, self.books))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises msgspec.DecodeError, or ConfigurationError."""
        return cls(*msgspec.json.decode(payload, type=tuple[LimitsFile, str, str, int]))

    def like(self, file: LimitsFile) -> LimitSet:
        """Another file's limits, of the same book."""
        return LimitSet(file, self.account, self.strategy, self.books)

    @cached_property
    def version(self) -> str:
        """Names this very set of limits: 12 hexadecimal digits."""
        told = (msgspec.json.encode(self.file, order="sorted"), self.account, self.strategy, str(self.books))
        text = b"\0".join(part if isinstance(part, bytes) else part.encode() for part in told)
        return hashlib.blake2b(text, digest_size=6).hexdigest()

    @cached_property
    def calendar(self) -> Calendar:
        """Of the account."""
        return compile_session(self.file.session)

    def of(self, symbol: str) -> Limits:
        """What holds for a symbol."""
        return self._resolved(symbol)[0]

    def rate(self, symbol: str) -> float:
        """Value of the symbol's currency in the account's; NaN where nobody has given one."""
        return self._resolved(symbol)[1]

    def record(self, symbol: str) -> np.record:
        """The limits of a symbol as the compiled code takes them; infinite is off."""
        found = table(LIMITS, 1)
        for name, value in msgspec.structs.asdict(self.of(symbol)).items():
            if name not in _WORDS:
                found[name][0] = as_number(name, value)
        found.var_quantile[0] = NormalDist().inv_cdf(self.of(symbol).var_confidence)
        row: np.record = found[0]
        return row

    def _resolved(self, symbol: str) -> tuple[Limits, float]:
        known = self._known.get(symbol)
        if known is None:
            given = {**self._base, **self.file.symbols.get(symbol, {})}
            try:
                limits = msgspec.convert(given, Limits, strict=False)
            except msgspec.ValidationError as error:
                raise ConfigurationError(f"limits of {symbol or 'the book'}: {error}") from error
            known = self._known[symbol] = (self._shared(limits), self._rate(limits.currency))
        return known

    def _shared(self, limits: Limits) -> Limits:
        """The book's part of what is divided; orders are counted in whole ones, at least one a book."""
        if self.books == 1:
            return limits
        changes: dict[str, Any] = {}
        for name in SHARED:
            value = getattr(limits, name)
            if value is not None:
                changes[name] = max(1, value // self.books) if name == "max_orders" else value / self.books
        return msgspec.structs.replace(limits, **changes)

    def _rate(self, currency: str) -> float:
        if currency in {"", self.file.currency}:
            return 1.0
        return self.file.rates.get(currency, math.nan)


def as_number(name: str, value: Any) -> float:
    """A limit as a number: infinite where it is off, the place of a word among its words."""
    if value is None:
        return math.inf
    if isinstance(value, str):
        return float(_FIELDS[name].type.__args__.index(value))
    return float(value)

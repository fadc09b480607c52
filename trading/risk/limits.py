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
from typing import Annotated, Any, Literal, Self, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
from msgspec import Meta, Struct

from trading.encoding import END, Records
from trading.errors import ConfigurationError
from trading.records import record_type, table
from trading.risk.calendar import Calendar, Session, compile_session

#: What the rings hold at most: a limit that counts cannot be larger.
MOST_SYMBOL_ORDERS, MOST_ORDERS, MOST_LOSSES = 64, 2048, 16
#: More in a row is no limit.
MOST_EXECUTIONS = 1_000_000
#: Returns that value at risk looks back on.
BARS = 256

Positive = Annotated[float, Meta(gt=0.0, lt=1e18)]
Amount = Annotated[float, Meta(ge=0.0, lt=1e18)]
Share = Annotated[float, Meta(gt=0.0, le=1.0)]
Seconds = Annotated[float, Meta(gt=0.0, le=1e7)]


class Limit(Struct, frozen=True):
    """What is known of one limit beside its type and default: all that reads, shares or shows limits asks here.

    Attributes:
        meaning: a sentence.
        unit: of its value; "" for a word or a switch.
        scope: "symbol", or "book" for what cannot be given for a symbol.
        divided: whether a book gets its share of it: books are decided independently of one another.
        permissive: the value with which it stops nothing, where that is not None.
    """

    meaning: str
    unit: str = ""
    scope: Literal["symbol", "book"] = "symbol"
    divided: bool = False
    permissive: float | bool | None = None


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for one symbol of one book. Money is in the account's currency; None is off."""

    currency: Annotated[
        Annotated[str, Meta(pattern=r"^([A-Z0-9]{2,10})?" + END)],
        Limit("Of the symbol's price and fees; '' is the account's."),
    ] = ""
    price_increment: Annotated[Amount, Limit("Prices are multiples of it; 0 is any.", "price", permissive=0.0)] = (
        0.0
    )
    lot: Annotated[Positive, Limit("Quantities are multiples of it.", "units", permissive=1e-8)] = 0.001
    min_quantity: Annotated[Amount, Limit("Smallest order.", "units", permissive=0.0)] = 0.0
    min_notional: Annotated[Amount, Limit("Smallest order.", "money", permissive=0.0)] = 0.0
    max_order_quantity: Annotated[Positive | None, Limit("Largest order.", "units")] = 1e9
    max_order_notional: Annotated[Positive | None, Limit("Largest order.", "money")] = 50_000.0
    price_collar: Annotated[Share | None, Limit("Largest abs(order's price - mid) / mid.", "share")] = 0.05
    max_staleness_s: Annotated[Seconds | None, Limit("Oldest data that an order may rest on.", "seconds")] = 5.0
    duplicate_window_s: Annotated[
        Seconds | None, Limit("The same side, quantity and price is not sent twice within.", "seconds")
    ] = 0.05
    max_symbol_orders: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_SYMBOL_ORDERS)] | None,
        Limit("Orders of the symbol within `order_window_s`.", "orders"),
    ] = None
    order_window_s: Annotated[Seconds, Limit("Of both order rates.", "seconds", scope="book")] = 1.0
    max_same_way_executions: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_EXECUTIONS)] | None,
        Limit("Buys, or sells, of a symbol in a row, after which a human must look.", "orders"),
    ] = None
    restricted: Annotated[bool, Limit("Only exits.", permissive=False)] = False
    long_only: Annotated[bool, Limit("No position below zero.", permissive=False)] = False
    max_position_notional: Annotated[
        Positive, Limit("Largest abs(position and working orders) x price.", "money", permissive=1e17)
    ] = 100_000.0
    max_concentration: Annotated[
        Share | None, Limit("Largest share of one symbol in the greater of gross exposure and equity.", "share")
    ] = 0.25
    capital: Annotated[
        Positive, Limit("Equity at the start.", "money", scope="book", divided=True, permissive=1e6)
    ] = 2_000_000.0
    max_gross_notional: Annotated[
        Positive | None, Limit("Sum over symbols of the exposures.", "money", scope="book", divided=True)
    ] = 1_000_000.0
    max_net_notional: Annotated[
        Positive | None, Limit("Abs of the sum of the signed exposures.", "money", scope="book", divided=True)
    ] = None
    max_leverage: Annotated[Positive | None, Limit("Gross exposure / equity.", "times", scope="book")] = 2.0
    max_orders: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_ORDERS)] | None,
        Limit("Orders of the book within `order_window_s`.", "orders", scope="book", divided=True),
    ] = None
    max_drawdown: Annotated[
        Share | None,
        Limit(
            "Largest fall of equity below its high-water mark, as a share of that; latched.", "share", scope="book"
        ),
    ] = 0.2
    max_daily_loss: Annotated[
        Positive | None,
        Limit(
            "Largest fall of equity since the session began; latched until the next.",
            "money",
            scope="book",
            divided=True,
        ),
    ] = None
    cooldown_losses: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_LOSSES)] | None,
        Limit("Trades with a loss within `cooldown_window_s` after which there is a pause.", "trades"),
    ] = None
    cooldown_window_s: Annotated[Seconds, Limit("For how long a loss counts.", "seconds")] = 3600.0
    cooldown_s: Annotated[Seconds, Limit("How long the pause is.", "seconds")] = 600.0
    cooldown_scope: Annotated[
        Literal["symbol", "side", "all"], Limit("What pauses: the symbol, its losing side, or all symbols.")
    ] = "symbol"
    max_value_at_risk: Annotated[
        Positive | None,
        Limit("Largest loss over one bar at `var_confidence`.", "money", scope="book", divided=True),
    ] = None
    var_method: Annotated[
        Literal["parametric", "historical"], Limit("Parametric (normal, zero mean) or historical.", scope="book")
    ] = "parametric"
    var_confidence: Annotated[
        Annotated[float, Meta(ge=0.5, lt=1.0)], Limit("Of value at risk.", "share", scope="book")
    ] = 0.99
    var_interval_s: Annotated[Seconds, Limit("Length of a bar, in event time.", "seconds", scope="book")] = 1.0
    var_min_bars: Annotated[
        Annotated[int, Meta(ge=2, le=BARS)], Limit("With fewer bars of a symbol its risk is not known.", "bars")
    ] = 30
    halted_allows_exits: Annotated[
        bool, Limit("Whether HALTED lets an order through that only shrinks a position.")
    ] = False
    max_desk_notional: Annotated[
        Positive | None, Limit("Gross exposure of all books of the desk, reserved in Redis.", "money", scope="book")
    ] = None


#: What is known of each limit, by its name.
DECLARED: dict[str, Limit] = {
    name: next(one for one in hint.__metadata__ if isinstance(one, Limit))
    for name, hint in get_type_hints(Limits, include_extras=True).items()
}
#: Limits that are words, each with its words.
_WORDS = {name: get_args(hint) for name, hint in get_type_hints(Limits).items() if get_origin(hint) is Literal}
#: Not a number.
_TEXTS = frozenset({"currency"})


def permissive_limits() -> dict[str, Any]:
    """Limits that stop nothing; what only shapes another limit is as by default."""
    hints = get_type_hints(Limits)
    return {
        name: limit.permissive
        for name, limit in DECLARED.items()
        if limit.permissive is not None or type(None) in get_args(hints[name])
    }


Level = dict[str, Any]
#: The quantile of the standard normal distribution goes with its confidence.
LIMITS = record_type(Limits, without=_TEXTS, more=("var_quantile",))


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
    currency: Annotated[str, Meta(pattern=r"^[A-Z0-9]{2,10}" + END)] = "USD"
    rates: dict[str, Positive] = {}
    session: Session | None = None
    defaults: Level = {}
    accounts: dict[str, Level] = {}
    strategies: dict[str, Level] = {}
    symbols: dict[str, Level] = {}


_stored = Records(tuple[LimitsFile, str, str, Annotated[int, Meta(ge=1)]])


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
        """Raises BadRecord, or ConfigurationError."""
        return cls(*_stored.read(payload))

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
            if name not in _TEXTS:
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
        """The book's part of what is divided, orders in whole ones. Raises ConfigurationError for too few."""
        if self.books == 1:
            return limits
        changes: dict[str, Any] = {}
        for name, limit in DECLARED.items():
            value = getattr(limits, name)
            if limit.divided and value is not None:
                changes[name] = value // self.books if isinstance(value, int) else value / self.books
                if not changes[name]:
                    raise ConfigurationError(
                        f"{name} {value} is fewer than the {self.books} books (a partition each) that share it: "
                        f"each needs one at least; give {self.books} or more"
                    )
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
        return float(_WORDS[name].index(value))
    return float(value)

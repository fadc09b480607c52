"""The book of one partition: positions, working orders, cash and totals, marked to every tick.

A partition is the unit of determinism: its ticks have one order, so its book has one history, whichever
gateway rebuilds it. Each book has an equal share of the account's capital and of the limits on the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from msgspec import Struct

from trading.arrays import FloatArray, Int64Array
from trading.events import ExecutionReport, ReportKind
from trading.portfolio import marks, orders, totals
from trading.portfolio.tables import allocate_tables
from trading.portfolio.verdict import allocate_results, finite, verdict_of
from trading.portfolio.working_orders import MOST_FINISHED, OrdersDump, WorkingOrders
from trading.risk.limits import BARS, MOST_LOSSES, MOST_ORDERS, MOST_SYMBOL_ORDERS, LimitSet
from trading.risk.model import ACCOUNT_DTYPE, POSITION_DTYPE, Order
from trading.risk.verdict import Verdict

FIRST_ROWS = 16
#: Symbols that reports may bring a book to: what ticks bring is bounded by their admission.
MOST_ROWS = 8192
NO_FILL = (0.0, 0.0, 0.0)


class BookSummary(Struct, frozen=True):
    """A book at a glance; None is not known. Money in the account's currency."""

    equity: float | None
    gross: float | None
    drawdown: float | None
    working_orders: int
    latched: list[str]
    limits_version: str


class BookDump(Struct, frozen=True, array_like=True):
    """A copy of a book: the tables as bytes, rows in the order of `symbols`; `layout` names their columns."""

    layout: str
    symbols: list[str]
    tables: list[bytes]
    orders: OrdersDump


#: A dump of other columns is of another version.
LAYOUT = f"{POSITION_DTYPE.descr}{ACCOUNT_DTYPE.descr}{BARS},{MOST_LOSSES},{MOST_ORDERS},{MOST_SYMBOL_ORDERS}"


class Book:
    """Positions, account and past of a partition, under one set of limits.

    Attributes:
        tables: as compiled code takes them.
        limits: in force.
        working: accepted orders that the broker has not finished.
    """

    def __init__(self, limits: LimitSet | None = None) -> None:
        self.limits = limits or LimitSet()
        self.working = WorkingOrders()
        self._rows: dict[str, int] = {}
        self.tables = allocate_tables(FIRST_ROWS)
        # The account's limits hold before the first symbol comes.
        self.tables.limits[0] = self.limits.record("")
        account = self.tables.account[0]
        account.capital = account.high_water = self.limits.book.capital
        account.day = account.bar = -1
        account.day_equity = math.nan

    # ---- looking ------------------------------------------------------------------------------

    @property
    def symbols(self) -> list[str]:
        """In the order of the rows."""
        return list(self._rows)

    @property
    def now_ns(self) -> int:
        """The newest event time, nanoseconds since 1970 UTC: ages are measured against it."""
        return int(self.tables.account[0].now_ns)

    @property
    def equity(self) -> float:
        """In money; NaN when a position cannot be valued."""
        account = self.tables.account[0]
        return float(account.capital + account.worth) if account.unpriced == 0 else math.nan

    @property
    def gross(self) -> float:
        """What positions could be when the working orders fill, in money; NaN when one cannot be valued."""
        account = self.tables.account[0]
        return float(account.gross) if account.unpriced == 0 else math.nan

    def summary(self) -> BookSummary:
        """What a person watches; may be asked from any thread, and is then of about now."""
        account, own = self.tables.account[0], self.equity
        return BookSummary(
            equity=finite(own),
            gross=finite(self.gross),
            drawdown=finite(1.0 - own / float(account.high_water)),
            working_orders=len(self.working),
            latched=[
                name
                for name, latched in (
                    ("drawdown", account.drawdown_latched),
                    ("daily_loss", account.daily_loss_latched),
                    ("repeated_execution", self.tables.positions.stopped.any()),
                )
                if latched
            ],
            limits_version=self.limits.version,
        )

    def position(self, symbol: str) -> Any:
        """The symbol's position; a new one for a symbol that was never seen."""
        return self.tables.positions[self.row(symbol)]

    def quantity(self, symbol: str) -> float:
        """Signed position in units; 0 for a symbol never traded."""
        row = self._rows.get(symbol)
        return 0.0 if row is None else float(self.tables.positions.quantity[row])

    def positions(self) -> dict[str, float]:
        """Open positions by symbol, a copy."""
        quantities = zip(self._rows, self.tables.positions.quantity.tolist(), strict=False)
        return {symbol: quantity for symbol, quantity in quantities if quantity != 0.0}

    def rows(self, symbols: Sequence[str]) -> Int64Array:
        """The row of each symbol, int64 [n]; new symbols get the next ones."""
        known = self._rows
        try:
            return np.array([known[symbol] for symbol in symbols], np.int64)
        except KeyError:
            return np.array([self.row(symbol) for symbol in symbols], np.int64)

    def row(self, symbol: str) -> int:
        """The symbol's row, made where there is none."""
        row = self._rows.get(symbol)
        if row is not None:
            return row
        row = len(self._rows)
        if row == len(self.tables.positions):
            self._grow(2 * row)
        self._rows[symbol] = row
        position = self.tables.positions[row]
        position.mark = position.bar_mark = math.nan
        self.tables.account[0].rows = row + 1
        self._limit(row, symbol)
        return row

    # ---- moving -------------------------------------------------------------------------------

    def observe(self, symbol: str, event_ns: int, mid: float, sent_ns: int | None = None) -> int:
        """Take a tick of one symbol; returns the age of the data, in ns."""
        # First the row: a new symbol may need larger tables.
        row, calendar = self.row(symbol), self.limits.calendar
        sent = event_ns if sent_ns is None else sent_ns
        return int(marks.observe(self.tables, calendar, row, event_ns, event_ns, sent, mid))

    def judge(self, symbol: str, order: Order) -> Verdict:
        """What the rules say of an order; the book stays as it is."""
        row, rule_results = self.row(symbol), allocate_results()
        verdict = orders.judge(self.tables, row, order, rule_results, allocate_results())
        return verdict_of(verdict.outcome, verdict.quantity, rule_results)

    def accept(self, symbol: str, quantity: float, price: float, number: int, *, assumed: bool) -> None:
        """An order was accepted; `assumed` takes it for filled at its price."""
        row = self.row(symbol)
        orders.accept(self.tables, row, quantity, price, number, assumed)
        if not assumed:
            self.working.add(number, row, quantity)

    def apply(self, reports: Sequence[ExecutionReport]) -> None:
        """Take the broker's reports, in order; one that comes again is not taken again.

        A fill of an order that does not work here was traded all the same: it moves position and cash. Of so many
        such orders or symbols that they are no longer told apart the drawdown is latched: what the book holds is
        not known, and only exits are let through until a human has looked.
        """
        rows, releases, fills = [], [], []
        for report in reports:
            if self.working.is_repeated(report):
                continue
            if self._is_beyond(report):
                self.latch_drawdown()
                continue
            ended = self.working.take(report)
            row, released = (self.row(report.symbol), 0.0) if ended is None else ended
            is_fill = report.kind is ReportKind.FILL
            rows.append(row)
            releases.append(released)
            fills.append((report.quantity, report.price, report.fee) if is_fill else NO_FILL)
        if rows:
            columns = np.array(rows, np.int64), np.array(releases, np.float64), np.array(fills, np.float64)
            orders.apply(self.tables, *columns)

    def _is_beyond(self, report: ExecutionReport) -> bool:
        """Whether a report would make the book grow without end: more symbols or more orders of others."""
        new_row = report.symbol not in self._rows and len(self._rows) >= MOST_ROWS
        foreign = report.number < 0 and report.order_id not in self.working.foreign
        return new_row or (foreign and len(self.working.foreign) >= MOST_FINISHED)

    def replay(
        self,
        symbols: Sequence[str],
        times_ns: Int64Array,
        mids: FloatArray,
        numbers: Int64Array,
        made: FloatArray,
        *,
        assumed: bool,
    ) -> None:
        """Take n ticks that were decided before, and the orders that came of them.

        Args:
            symbols: n symbols.
            times_ns: int64 [n, 3]: event, quote, sent.
            mids: float64 [n]; NaN where none is known.
            numbers: int64 [n], of the orders.
            made: float64 [n, 2], orders: signed quantity (0 where there was none) and price.
            assumed: whether orders count as filled.
        """
        rows = self.rows(symbols)
        orders.replay(self.tables, self.limits.calendar, rows, times_ns, mids, numbers, made, assumed)
        if not assumed:
            self.working.add_all(rows, numbers, made[:, 0])

    def set_limits(self, limits: LimitSet) -> None:
        """From now on other limits; capital and rates that changed revalue the book."""
        self.limits = limits
        account = self.tables.account[0]
        more = limits.book.capital - account.capital
        account.capital += more
        account.high_water += more
        account.day_equity += more
        before = self.tables.limits[0]
        interval_s, at_risk = float(before.var_interval_s), not math.isinf(before.max_value_at_risk)
        for symbol, row in self._rows.items():
            self._limit(row, symbol)
        if not self._rows:
            self.tables.limits[0] = limits.record("")
        now = self.tables.limits[0]
        if float(now.var_interval_s) != interval_s or at_risk is math.isinf(now.max_value_at_risk):
            # Returns of other bars, or of bars with a gap, tell nothing of these.
            account.bar, account.bars = -1, 0
            self.tables.positions.bars[:] = 0
            self.tables.positions.bar_mark[:] = math.nan
            self.tables.returns[:] = self.tables.scenarios[:] = 0.0
        totals.recount(self.tables)

    def latch_drawdown(self) -> None:
        """What the book has been through is not known whole: only exits until a human has looked."""
        self.tables.account[0].drawdown_latched = True

    def reset(self, what: str) -> None:
        """A human has looked: end what is latched. Raises ValueError for what is not in RESETS."""
        if what not in RESETS:
            raise ValueError(f"{what!r} cannot be reset: expected one of {', '.join(RESETS)}")
        account, positions = self.tables.account[0], self.tables.positions
        if what == "drawdown":
            account.drawdown_latched = False
            account.high_water = account.high_water if math.isnan(self.equity) else self.equity
        elif what == "daily_loss":
            account.daily_loss_latched = False
            account.day_equity = self.equity
        elif what == "repeated_execution":
            positions.stopped[:] = False
            positions.run[:] = 0
        elif what == "cooldown":
            account.paused_until_ns = 0
            positions.longs_paused_until_ns[:] = positions.shorts_paused_until_ns[:] = 0
        else:
            positions.sent_ns[:] = 0

    # ---- keeping ------------------------------------------------------------------------------

    def dump(self) -> BookDump:
        """A copy."""
        n, t = len(self._rows), self.tables
        parts = [
            t.positions[:n], t.account, t.order_ns[:n], t.order_quantities[:n], t.order_prices[:n], t.all_order_ns,
            t.loss_ns[:n], t.all_loss_ns,
        ]  # fmt: skip
        if not math.isinf(t.limits.max_value_at_risk[0]):
            parts += [t.returns[:n], t.scenarios]
        return BookDump(LAYOUT, self.symbols, [part.tobytes() for part in parts], self.working.dump())

    @classmethod
    def load(cls, dump: BookDump, limits: LimitSet) -> Self:
        """The book that was dumped, under the limits that were in force. Raises ValueError for another version."""
        if dump.layout != LAYOUT:
            raise ValueError("the book has other columns")
        book, n = cls(limits), len(dump.symbols)
        if len(set(dump.symbols)) != n:
            raise ValueError("a symbol has two rows")
        book._grow(max(FIRST_ROWS, n))
        book._rows = {symbol: row for row, symbol in enumerate(dump.symbols)}
        t = book.tables
        names = (
            "positions",
            "account",
            "order_ns",
            "order_quantities",
            "order_prices",
            "all_order_ns",
            "loss_ns",
            "all_loss_ns",
            "returns",
            "scenarios",
        )
        for name, content in zip(names, dump.tables, strict=False):
            into = getattr(t, name)
            found = np.frombuffer(content, into.dtype).reshape(-1, *into.shape[1:])
            into[: len(found)] = found
        if int(t.account[0].rows) != n:
            raise ValueError(f"the account counts {int(t.account[0].rows)} rows of {n}")
        for symbol, row in book._rows.items():
            t.limits[row] = limits.record(symbol)
        book.working = WorkingOrders.load(dump.orders)
        return book

    def _limit(self, row: int, symbol: str) -> None:
        self.tables.limits[row] = self.limits.record(symbol)
        self.tables.positions[row].rate = self.limits.rate(symbol)

    def _grow(self, rows: int) -> None:
        old, self.tables = self.tables, allocate_tables(rows)
        for name, values in old._asdict().items():
            getattr(self.tables, name)[: len(values)] = values


#: What a human may reset, and what it means.
RESETS = {
    "drawdown": "end the latch; the high-water mark begins anew at today's equity",
    "daily_loss": "end the latch; the day begins anew at today's equity",
    "repeated_execution": "let every symbol trade again",
    "cooldown": "end every pause",
    "clock_offset": "forget how far the clocks of feed and exchange are apart",
}

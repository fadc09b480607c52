"""The book of one partition: positions, working orders, cash and totals, marked to every tick.

A partition is the unit of determinism: its ticks have one order, so its book has one history, whichever
gateway rebuilds it. Each book has an equal share of the account's capital and of the limits on the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import numpy as np
from msgspec import Struct

from trading.arrays import FloatArray, Int64Array
from trading.decision import kernel
from trading.events import ExecutionReport, ReportKind
from trading.portfolio.kernel import Tables
from trading.records import table
from trading.risk import engine
from trading.risk.limits import BARS, LIMITS, MOST_LOSSES, MOST_ORDERS, MOST_SYMBOL_ORDERS, LimitSet
from trading.risk.model import ACCOUNT, LINE, OFF, PASSED, Order
from trading.risk.verdict import Outcome, RuleResult, Verdict

FIRST_ROWS = 16
#: Orders whose late or repeated reports are still known for what they are.
MOST_FINISHED = 4096
NOTHING = 1e-9
NO_FILL = (0.0, 0.0, 0.0)
OUTCOMES = (Outcome.ACCEPT, Outcome.CLIP, Outcome.DENY)


class Working(Struct, array_like=True):
    """An accepted order: its row, the signed quantity that is left, and the next report that is expected."""

    row: int
    left: float
    sequence: int = 0


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
    working: dict[int, Working]
    finished: dict[int, int]


#: A dump of other columns is of another version.
LAYOUT = f"{LINE.descr}{ACCOUNT.descr}{BARS},{MOST_LOSSES},{MOST_ORDERS},{MOST_SYMBOL_ORDERS}"


class Book:
    """Lines, account and past of a partition, under one set of limits.

    Attributes:
        tables: as compiled code takes them.
        limits: in force.
        working: accepted orders that the broker has not finished, by number.
    """

    def __init__(self, limits: LimitSet | None = None) -> None:
        self.limits = limits or LimitSet()
        self.working: dict[int, Working] = {}
        self._finished: dict[int, int] = {}
        self._rows: dict[str, int] = {}
        self.tables = new_tables(FIRST_ROWS)
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
                    ("repeated_execution", self.tables.lines.stopped.any()),
                )
                if latched
            ],
            limits_version=self.limits.version,
        )

    def line(self, symbol: str) -> Any:
        """The symbol's line; a new one for a symbol that was never seen."""
        return self.tables.lines[self.row(symbol)]

    def quantity(self, symbol: str) -> float:
        """Signed position in units; 0 for a symbol never traded."""
        row = self._rows.get(symbol)
        return 0.0 if row is None else float(self.tables.lines.position[row])

    def positions(self) -> dict[str, float]:
        """Open positions by symbol, a copy."""
        quantities = zip(self._rows, self.tables.lines.position.tolist(), strict=False)
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
        if row == len(self.tables.lines):
            self._grow(2 * row)
        self._rows[symbol] = row
        line = self.tables.lines[row]
        line.mark = line.bar_mark = math.nan
        self.tables.account[0].lines = row + 1
        self._limit(row, symbol)
        return row

    # ---- moving -------------------------------------------------------------------------------

    def observe(self, symbol: str, event_ns: int, mid: float, sent_ns: int | None = None) -> int:
        """Take a tick of one symbol; returns the age of the data, in ns."""
        # First the row: a new symbol may need larger tables.
        row, calendar = self.row(symbol), self.limits.calendar
        sent = event_ns if sent_ns is None else sent_ns
        return int(kernel.observe(self.tables, calendar, row, event_ns, event_ns, sent, mid))

    def judge(self, symbol: str, order: Order) -> Verdict:
        """What the rules say of an order; the book stays as it is."""
        row, sheet, again = self.row(symbol), new_sheet(), new_sheet()
        ruling = kernel.judge(self.tables, row, order, sheet, again)
        return verdict_of(ruling.outcome, ruling.quantity, sheet.results, sheet.values, sheet.limits)

    def accept(self, symbol: str, quantity: float, price: float, number: int, *, assumed: bool) -> None:
        """An order was accepted; `assumed` takes it for filled at its price."""
        row = self.row(symbol)
        kernel.accept(self.tables, row, quantity, price, number, assumed)
        if not assumed:
            self.working[number] = Working(row, quantity)

    def apply(self, reports: Sequence[ExecutionReport]) -> None:
        """Take the broker's reports, in order; one that comes again is not taken again.

        A fill of an order that does not work here was traded all the same: it moves position and cash.
        """
        rows, releases, fills = [], [], []
        for report in reports:
            number, working = report.number, self.working.get(report.number)
            expected = self._finished.get(number, 0) if working is None else working.sequence
            if report.sequence < expected:
                continue
            if working is None:
                rows.append(self.row(report.symbol))
                releases.append(0.0)
                if number in self._finished:
                    self._finished[number] = report.sequence + 1
            else:
                working.sequence = report.sequence + 1
                rows.append(working.row)
                releases.append(self._released(report, working))
            is_fill = report.kind is ReportKind.FILL
            fills.append((report.quantity, report.price, report.fee) if is_fill else NO_FILL)
        if rows:
            kernel.apply(self.tables, np.array(rows), np.array(releases), np.array(fills))

    def replay(
        self,
        symbols: Sequence[str],
        times_ns: Int64Array,
        mids: FloatArray,
        numbers: Int64Array,
        orders: FloatArray,
        *,
        assumed: bool,
    ) -> None:
        """Take n ticks that were decided before, and the orders that came of them.

        Args:
            symbols: n symbols.
            times_ns: int64 [n, 3]: event, quote, sent.
            mids: float64 [n]; NaN where none is known.
            numbers: int64 [n], of the orders.
            orders: float64 [n, 2]: signed quantity (0 where there was none) and price.
            assumed: whether orders count as filled.
        """
        rows = self.rows(symbols)
        kernel.replay(self.tables, self.limits.calendar, rows, times_ns, mids, numbers, orders, assumed)
        if not assumed:
            self.note_working(rows, numbers, orders[:, 0])

    def note_working(self, rows: Int64Array, numbers: Int64Array, quantities: FloatArray) -> None:
        """Orders of these numbers were accepted, int64 [n] and float64 [n]; quantity 0 is none."""
        for k in np.flatnonzero(quantities).tolist():
            self.working[int(numbers[k])] = Working(int(rows[k]), float(quantities[k]))

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
            self.tables.lines.bars[:] = 0
            self.tables.lines.bar_mark[:] = math.nan
            self.tables.returns[:] = self.tables.scenarios[:] = 0.0
        kernel.recount(self.tables)

    def reset(self, what: str) -> None:
        """A human has looked: end what is latched. Raises ValueError for what is not in RESETS."""
        if what not in RESETS:
            raise ValueError(f"{what!r} cannot be reset: expected one of {', '.join(RESETS)}")
        account, lines = self.tables.account[0], self.tables.lines
        if what == "drawdown":
            account.drawdown_latched = False
            account.high_water = account.high_water if math.isnan(self.equity) else self.equity
        elif what == "daily_loss":
            account.daily_loss_latched = False
            account.day_equity = self.equity
        elif what == "repeated_execution":
            lines.stopped[:] = False
            lines.run[:] = 0
        elif what == "cooldown":
            account.paused_until_ns = 0
            lines.longs_paused_until_ns[:] = lines.shorts_paused_until_ns[:] = 0
        else:
            lines.sent_ns[:] = 0

    # ---- keeping ------------------------------------------------------------------------------

    def dump(self) -> BookDump:
        """A copy."""
        n, t = len(self._rows), self.tables
        parts = [t.lines[:n], t.account, t.order_ns[:n], t.all_order_ns, t.loss_ns[:n], t.all_loss_ns]
        if not math.isinf(t.limits.max_value_at_risk[0]):
            parts += [t.returns[:n], t.scenarios]
        working = {number: copy(one) for number, one in self.working.items()}
        return BookDump(LAYOUT, self.symbols, [part.tobytes() for part in parts], working, dict(self._finished))

    @classmethod
    def load(cls, dump: BookDump, limits: LimitSet) -> Self:
        """The book that was dumped, under the limits that were in force. Raises ValueError for another version."""
        if dump.layout != LAYOUT:
            raise ValueError("the book has other columns")
        book, n = cls(limits), len(dump.symbols)
        book._grow(max(FIRST_ROWS, n))
        book._rows = {symbol: row for row, symbol in enumerate(dump.symbols)}
        t = book.tables
        names = ("lines", "account", "order_ns", "all_order_ns", "loss_ns", "all_loss_ns", "returns", "scenarios")
        for name, content in zip(names, dump.tables, strict=False):
            into = getattr(t, name)
            found = np.frombuffer(content, into.dtype).reshape(-1, *into.shape[1:])
            into[: len(found)] = found
        for symbol, row in book._rows.items():
            t.limits[row] = limits.record(symbol)
        book.working = {number: copy(one) for number, one in dump.working.items()}
        book._finished = dict(dump.finished)
        return book

    def _released(self, report: ExecutionReport, working: Working) -> float:
        left = working.left
        released = left
        if report.quantity * left < 0.0:
            return 0.0  # of the other side: whatever it was, it was not of this order
        if report.kind is ReportKind.FILL and abs(report.quantity) < abs(left):
            released = report.quantity
        working.left = left = left - released
        # What is below any lot is what subtracting has left over.
        if abs(left) < NOTHING:
            released += left
            del self.working[report.number]
            self._finished[report.number] = working.sequence
            if len(self._finished) > MOST_FINISHED:
                del self._finished[next(iter(self._finished))]
        return released

    def _limit(self, row: int, symbol: str) -> None:
        self.tables.limits[row] = self.limits.record(symbol)
        self.tables.lines[row].rate = self.limits.rate(symbol)

    def _grow(self, rows: int) -> None:
        old, self.tables = self.tables, new_tables(rows)
        for name, values in old._asdict().items():
            getattr(self.tables, name)[: len(values)] = values


def new_tables(rows: int) -> Tables:
    """Empty ones."""
    return Tables(
        lines=table(LINE, rows),
        limits=table(LIMITS, rows),
        account=table(ACCOUNT, 1),
        order_ns=np.zeros((rows, MOST_SYMBOL_ORDERS), np.int64),
        all_order_ns=np.zeros(MOST_ORDERS, np.int64),
        loss_ns=np.zeros((rows, 2, MOST_LOSSES), np.int64),
        all_loss_ns=np.zeros(MOST_LOSSES, np.int64),
        returns=np.zeros((rows, BARS)),
        scenarios=np.zeros(BARS),
    )


#: What a human may reset, and what it means.
RESETS = {
    "drawdown": "end the latch; the high-water mark begins anew at today's equity",
    "daily_loss": "end the latch; the day begins anew at today's equity",
    "repeated_execution": "let every symbol trade again",
    "cooldown": "end every pause",
    "clock_offset": "forget how far the clocks of feed and exchange are apart",
}


def new_sheet(rows: int | None = None) -> engine.Sheet:
    """Room for the findings of one order, or of n."""
    shape = (engine.COUNT,) if rows is None else (rows, engine.COUNT)
    return engine.Sheet(np.zeros(shape, np.int8), np.zeros(shape), np.zeros(shape))


def verdict_of(outcome: int, quantity: float, results: Any, values: Any, limits: Any) -> Verdict:
    """The verdict as a value; rules that are off are left out."""
    found = []
    for name, result, value, limit in zip(
        engine.NAMES, results.tolist(), values.tolist(), limits.tolist(), strict=True
    ):
        if result != OFF:
            known, bound = finite(value), finite(limit)
            headroom = None if known is None or bound is None else bound - known
            found.append(RuleResult(name, result == PASSED, known, bound, headroom))
    return Verdict(OUTCOMES[outcome], quantity, tuple(found))


def finite(value: float) -> float | None:
    """The value, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None

"""No sequence of orders, fills, halts, reloads and restarts passes a limit, and the book is what happened."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.traded_book import SlowBook, TradedBook
from trading.events import ReportKind
from trading.portfolio.book import Book
from trading.risk.limits import LimitSet, LimitsFile, permissive_limits
from trading.risk.trading_state import ACTIVE, HALTED, KILLED, REDUCING
from trading.risk.verdict import Outcome

SYMBOLS = ("A", "B", "C")
LIMITS = {
    "max_order_notional": 30_000.0, "max_position_notional": 60_000.0, "max_gross_notional": 90_000.0,
    "max_net_notional": 50_000.0, "max_leverage": 1.5, "max_concentration": 0.6, "capital": 80_000.0,
    "max_drawdown": 0.3, "lot": 0.5, "max_symbol_orders": 6, "max_orders": 12,
}  # fmt: skip
TIGHTER = {**LIMITS, "max_position_notional": 20_000.0, "max_gross_notional": 40_000.0, "max_leverage": 0.4}
symbols = st.sampled_from(SYMBOLS)


class Trading(RuleBasedStateMachine):
    """A book beside a slow one."""

    @initialize()
    def begin(self):
        self.desk, self.state, self.limits = TradedBook(**LIMITS), ACTIVE, LIMITS
        self.slow = SlowBook(LIMITS["capital"])
        self.orders = {}
        for k, symbol in enumerate(SYMBOLS):
            self.tick(symbol, 50.0 * (k + 1))

    def tick(self, symbol, price):
        self.desk.tick(price, symbol, after_s=0.25)
        self.slow.marks[symbol] = price
        self.slow.note()

    @rule(symbol=symbols, move=st.floats(-0.1, 0.1))
    def market_moves(self, symbol, move):
        self.tick(symbol, round(self.slow.marks[symbol] * (1 + move), 2))

    @rule(symbol=symbols, quantity=st.integers(-1500, 1500).filter(bool), fills=st.booleans())
    def order(self, symbol, quantity, fills):
        before, price = self.slow.position(symbol), self.slow.marks[symbol]
        furthest, gross, net = self.slow.furthest(symbol), self.slow.gross(), self.slow.net()
        working = (self.slow.working_side(symbol, 1), self.slow.working_side(symbol, -1))
        verdict = self.desk.judge(quantity / 2, symbol, state=self.state)
        allowed = verdict.quantity
        assert abs(allowed) <= abs(quantity / 2)
        assert allowed * quantity >= 0
        if verdict.outcome is Outcome.DENY:
            assert allowed == 0
            return
        self.desk.number += 1
        self.desk.book.accept(symbol, allowed, price, self.desk.number, assumed=fills)
        if fills:
            self.slow.trades.append((symbol, allowed, price, 0.0))
        else:
            self.slow.working[self.desk.number] = (symbol, allowed)
        self.within_limits(symbol, furthest, gross, net, allowed)
        if self.state != ACTIVE:
            self.shrinks(symbol, before, working)

    def within_limits(self, symbol, furthest, gross, net, allowed):
        """Within every limit, or no worse than before."""
        close = 1 + 1e-9
        mark = self.slow.marks[symbol]
        assert abs(allowed) * mark <= self.limits["max_order_notional"] * close
        grew = self.slow.furthest(symbol) > furthest * close
        if grew:
            assert self.slow.furthest(symbol) * mark <= self.limits["max_position_notional"] * close
            assert self.slow.gross() <= self.limits["max_gross_notional"] * close
            assert self.slow.gross() <= self.limits["max_leverage"] * self.slow.equity() * close
            assert abs(self.slow.net()) <= max(abs(net), self.limits["max_net_notional"]) * close
            assert 1 - self.slow.equity() / self.slow.high_water <= self.limits["max_drawdown"] * close
        else:
            assert self.slow.gross() <= gross * close

    def shrinks(self, symbol, before, working):
        """No order under REDUCING makes abs(position) larger or lets it cross zero, even when all fill."""
        held = self.slow.position(symbol)
        buying, selling = self.slow.working_side(symbol, 1), self.slow.working_side(symbol, -1)
        assert abs(held) <= abs(before)
        assert held * before >= 0
        exits, worked = (selling, working[1]) if held > 0 else (buying, working[0])
        # What worked already when the desk began to reduce cannot be taken back; nothing is added to it.
        assert exits <= max(abs(held) + 1e-9, worked)

    @precondition(lambda self: self.slow.working)
    @rule(data=st.data(), share=st.sampled_from([0.5, 1.0]), fee=st.sampled_from([0.0, 1.5]))
    def broker_fills(self, data, share, fee):
        number = data.draw(st.sampled_from(sorted(self.slow.working)))
        symbol, left = self.slow.working[number]
        part = left if share == 1.0 else round(left * share, 3)
        price = round(self.slow.marks[symbol] * 1.001, 2)
        self.desk.report(number, ReportKind.FILL, part, price, fee, symbol)
        self.slow.trades.append((symbol, part, price, fee))
        rest = round(left - part, 10)
        if rest:
            self.slow.working[number] = (symbol, rest)
        else:
            del self.slow.working[number]
        self.slow.note()

    @precondition(lambda self: self.slow.working)
    @rule(data=st.data(), kind=st.sampled_from([ReportKind.REJECT, ReportKind.CANCEL]))
    def broker_ends(self, data, kind):
        number = data.draw(st.sampled_from(sorted(self.slow.working)))
        symbol, _ = self.slow.working.pop(number)
        self.desk.report(number, kind, symbol=symbol)

    @rule(state=st.sampled_from([ACTIVE, ACTIVE, REDUCING, HALTED, KILLED]))
    def somebody_changes_the_state(self, state):
        self.state = state

    @rule(limits=st.sampled_from([LIMITS, TIGHTER]))
    def limits_are_reloaded(self, limits):
        self.limits = limits
        file = LimitsFile(defaults={**permissive_limits(), **limits})
        self.desk.book.set_limits(LimitSet(file))

    @rule()
    def the_gateway_restarts(self):
        book = self.desk.book
        kept = msgspec.msgpack.decode(msgspec.msgpack.encode(book.dump()), type=type(book.dump()))
        self.desk.book = Book.load(kept, LimitSet.decode(book.limits.encode()))
        assert self.desk.book.dump() == book.dump()

    @invariant()
    def the_book_equals_the_slow_one(self):
        if not hasattr(self, "desk"):
            return
        book, slow = self.desk.book, self.slow
        account = book.tables.account[0]
        for symbol in SYMBOLS:
            position = book.position(symbol)
            assert position.quantity == pytest.approx(slow.position(symbol), abs=1e-9)
            assert position.buying == pytest.approx(slow.working_side(symbol, 1), abs=1e-9)
            assert position.selling == pytest.approx(slow.working_side(symbol, -1), abs=1e-9)
            assert position.realised == pytest.approx(slow.realised(symbol), rel=1e-9, abs=1e-6)
        assert book.equity == pytest.approx(slow.equity(), rel=1e-9)
        assert book.gross == pytest.approx(slow.gross(), rel=1e-9, abs=1e-6)
        assert account.net == pytest.approx(slow.net(), rel=1e-9, abs=1e-6)
        assert account.high_water == pytest.approx(slow.high_water, rel=1e-9)
        assert account.unpriced == 0
        assert not math.isnan(book.equity)


TestTrading = Trading.TestCase
TestTrading.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)

"""`make bench`, the risk engine's part: one core, no server.

Each figure stands beside its goal, and beside the same code interpreted (NUMBA_DISABLE_JIT=1, in a process of its
own in the same run): the ratio does not depend on how fast the machine is today.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from typing import Any

import msgspec
import numpy as np

from benchmarks.figures import BenchmarkFigures
from trading.decision.columns import TickColumns, allocate_columns
from trading.decision.decide import decide
from trading.decision.policy import DecisionPolicy
from trading.encoding import encode
from trading.events import ExecutionReport, ReportKind
from trading.portfolio import orders
from trading.portfolio.book import Book
from trading.portfolio.verdict import allocate_results
from trading.risk.engine import ACCEPT
from trading.risk.limits import LimitSet, LimitsFile
from trading.risk.model import Order
from trading.risk.trading_state import ACTIVE

SYMBOLS, SECOND = 1_000, 1_000_000_000
START = 1_704_110_400 * SECOND
#: Every rule that can be on together.
LIMITS: dict[str, Any] = {
    "price_increment": 0.01, "min_quantity": 0.01, "min_notional": 1.0, "max_symbol_orders": 60, "max_orders": 2000,
    "max_same_way_executions": 1_000_000, "max_net_notional": 1e12, "max_daily_loss": 1e9, "cooldown_losses": 16,
    "max_value_at_risk": 1e12, "max_gross_notional": 1e12, "max_leverage": 100.0, "capital": 1e11,
    "max_desk_notional": 1e13, "max_concentration": 0.9, "long_only": False,
}  # fmt: skip


def full_book() -> tuple[Book, list[str]]:
    """A thousand symbols, each held, with enough bars for value at risk."""
    book = Book(LimitSet(LimitsFile(defaults=LIMITS)))
    names = [f"S{k:04d}" for k in range(SYMBOLS)]
    rows = book.rows(names)
    generator = np.random.default_rng(3)
    prices = np.full(SYMBOLS, 100.0)
    for bar in range(40):
        prices = np.round(prices * (1 + generator.normal(0, 0.01, SYMBOLS)), 2)
        for k in rows.tolist():
            at = START + bar * SECOND
            book.observe(names[k], at, float(prices[k]))
    for k, name in enumerate(names):
        book.accept(name, 10.0 if k % 2 else -10.0, float(prices[k]), k, assumed=True)
    at = START + 45 * SECOND
    for k in rows.tolist():
        book.observe(names[k], at, float(prices[k]))
    return book, names


def one_decision(book: Book, count: int) -> float:
    """Microseconds from Python: all rules, one order, the next symbol each time."""
    sheet, again = allocate_results(), allocate_results()
    wanted = [
        Order(
            5.0, mark, math.nan, mark, mark, mark, 10_000 + k, book.now_ns, 0, ACTIVE, True, 1e13
        )
        for k, mark in enumerate(book.tables.positions.mark[:SYMBOLS].tolist())
    ]  # fmt: skip
    verdict = orders.judge(book.tables, 0, wanted[0], sheet, again)
    assert verdict.outcome == ACCEPT
    times = []
    for _ in range(5):
        began = time.perf_counter()
        for k in range(count):
            orders.judge(book.tables, k % SYMBOLS, wanted[k % SYMBOLS], sheet, again)
        times.append((time.perf_counter() - began) / count)
    return min(times) * 1e6


def batch(book: Book, names: list[str], repeats: int) -> tuple[float, int]:
    """Milliseconds to decide a thousand ticks, each of which wants an order; and how many did."""
    n = SYMBOLS
    rows, mids = book.rows(names), book.tables.positions.mark[:n].copy()
    context = DecisionPolicy(book.limits, rebalance_band=0.0).context(book.limits, desk_quota=1e13)
    out, best, wanted = allocate_columns(n), math.inf, 0
    for turn in range(repeats):
        at = np.full(n, book.now_ns + 2 * SECOND)
        market = np.stack([mids, mids, mids, mids], axis=1)
        targets = np.full(n, 0.3 if turn % 2 else 0.1)
        numbers = np.arange(n) + 100_000 + turn * n
        ticks = TickColumns(
            rows, numbers, at, at, at, market, np.ones(n, np.bool_), np.full(n, -1, np.int8), targets
        )
        began = time.perf_counter()
        decide(book, ticks, context, out)
        best = min(best, time.perf_counter() - began)
        wanted = int((out.outcomes >= 0).sum())
    return best * 1e3, wanted


def rebuild(count: int) -> float:
    """Events a second: orders, and their reports decoded from JSON, into an empty book."""
    book = Book(LimitSet(LimitsFile(defaults=LIMITS)))
    names = [f"S{k:04d}" for k in range(SYMBOLS)]
    n = count // 3
    numbers = np.arange(n)
    symbols = [names[k % SYMBOLS] for k in range(n)]
    times = np.repeat((START + numbers * 1_000_000)[:, None], 3, axis=1)
    mids = np.full(n, 100.0)
    made = np.stack([np.where(numbers // SYMBOLS % 2 == 0, 10.0, -10.0), mids], axis=1)
    halves = [float(quantity) / 2 for quantity in made[:, 0]]
    payloads = [
        encode(ExecutionReport("order", k, part, symbols[k], ReportKind.FILL, halves[k], 100.01, 0.05, 0.0, START))
        for k in range(n)
        for part in (0, 1)
    ]
    decoder = msgspec.json.Decoder(ExecutionReport)
    began = time.perf_counter()
    for begin in range(0, n, 1_000):
        end = min(n, begin + 1_000)
        chunk = slice(begin, end)
        book.replay(symbols[chunk], times[chunk], mids[chunk], numbers[chunk], made[chunk], assumed=False)
        book.apply([decoder.decode(payload) for payload in payloads[2 * begin : 2 * end]])
    seconds = time.perf_counter() - began
    assert not len(book.working)
    return 3 * n / seconds


def measure(quick: bool) -> dict[str, float]:
    """All figures; `quick` for the interpreter, which takes a hundred times as long."""
    book, names = full_book()
    found = {"one_us": one_decision(book, 200 if quick else 20_000)}
    rebuild(3_000)
    found["rebuild_per_s"] = rebuild(9_000 if quick else 300_000)
    found["batch_ms"], wanted = batch(book, names, 2 if quick else 30)
    assert wanted == SYMBOLS
    return found


def main() -> None:
    """Compiled here, interpreted in a process of its own."""
    if "--interpreted" in sys.argv:
        print(json.dumps(measure(quick=True)))
        return
    compiled = measure(quick=False)
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.risk", "--interpreted"],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    slow = json.loads(told)
    figures = BenchmarkFigures("risk", f"risk engine: {SYMBOLS:,} symbols held, one core")
    rows = (
        ("all rules, one decision, called from Python", "one_us", "us", 20.0, False),
        ("a batch of 1,000 decisions, all with an order", "batch_ms", "ms", 2.0, False),
        ("book rebuild: orders, and reports from JSON", "rebuild_per_s", "events/s", 200_000.0, True),
    )
    for name, key, unit, goal, more in rows:
        value, other = compiled[key], slow[key]
        ratio = value / other if more else other / value
        bound = {"at_least": goal} if more else {"at_most": goal}
        figures.tell(name, value, unit, **bound, beside=f"interpreted {other:,.4g} {unit}, {ratio:,.0f} times")
    figures.save({"compiled": compiled, "interpreted": slow})


if __name__ == "__main__":
    main()

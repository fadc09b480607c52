"""Rules that Python runs answer as the compiled ones do: `ultrathink risk check` is run by Python."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.paths import ROOT
from trading.portfolio.book import Book
from trading.risk import limits_file
from trading.risk.calendar import DAY
from trading.risk.limits import LimitSet
from trading.risk.model import Order
from trading.risk.trading_state import SEVERITY

COUNT = 400
NOW_NS = 1_780_000_000_000_000_000
#: Ordinary ones, and those at which arithmetic ends.
EDGES = (
    0.0, -0.0, 1.0, -1.0, 0.1, 0.2, 100.0, 61_000.0, 1e-9, 1e15, 2.0**53 + 1.0, 5e-324, 1e-300, 1e300, -1e300,
    sys.float_info.max, math.inf, -math.inf, math.nan,
)  # fmt: skip


def verdicts() -> list[str]:
    """Of a book that holds something or nothing, on orders from a seed."""
    chance = random.Random(7)

    def number() -> float:
        return chance.choice(EDGES) if chance.random() < 0.6 else chance.uniform(-1e3, 1e3)

    file = limits_file.read(ROOT / "deploy" / "limits.yaml")
    sets = [LimitSet(), LimitSet(file)]
    said = []
    for _ in range(COUNT):
        usual = chance.random() < 0.5
        book, mid, held = (
            Book(chance.choice(sets)),
            100.0 if usual else number(),
            chance.choice([0.0, 700.0]) if usual else number(),
        )
        symbol = chance.choice(["BTCUSDT", "AAPL"])
        with np.errstate(all="ignore"):
            if held:
                book.observe(symbol, NOW_NS - DAY, mid)
                book.accept(symbol, held, mid, 0, assumed=True)
            book.observe(symbol, NOW_NS, mid)
            order = Order(
                number(), number(), number(), number(), math.nan, mid, 1, NOW_NS, chance.randrange(10**11),
                chance.choice(list(SEVERITY.values())), chance.random() < 0.5, number(),
            ) if not usual else Order(
                float(chance.randint(-450, 450)), mid, math.nan, math.nan, math.nan, mid, 1, NOW_NS, 0, 0, True, 1e9
            )  # fmt: skip
            said.append(repr(book.judge(symbol, order)))
    return said


@pytest.mark.filterwarnings("error")
def test_interpreted_rules_answer_as_compiled_ones_to_the_last_bit():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"from {__name__} import *; print(*verdicts(), sep='\\n')"],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True, cwd=Path(ROOT),
    )  # fmt: skip
    interpreted = done.stdout.splitlines()
    assert interpreted == verdicts()
    assert len(set(interpreted)) > 0.9 * COUNT
    assert {said.partition(":")[0].rpartition(".")[2] for said in interpreted} == {"ACCEPT", "CLIP", "DENY"}

"""Rules that Python runs answer as the compiled ones do: those of `ultrathink risk check` are run by Python."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from contextlib import suppress

import msgspec

from tests.paths import ROOT
from trading.errors import ConfigurationError
from trading.portfolio.judging import judged
from trading.risk import limits_file
from trading.risk.limits import Limits, LimitSet
from trading.risk.model import Order
from trading.risk.trading_state import SEVERITY

COUNT = 600
NOW_NS = 1_780_000_000_000_000_000
#: Ordinary ones, and those at which arithmetic ends.
EDGES = (
    0.0, -0.0, 1.0, -1.0, 0.1, 0.2, 100.0, 61_000.0, 1e-9, 1e14, 1e15, 2.0**53 + 1.0, 5e-324, 1e-300, -1e300, 1e307,
    sys.float_info.max, math.inf, -math.inf, math.nan,
)  # fmt: skip


def some_limits(chance: random.Random) -> LimitSet:
    """The defaults, or some of them off or multiplied by anything that is a limit still."""
    while True:
        given: dict[str, object] = {"lot": chance.choice([1e-8, 0.001, 1.0, 1e9])}
        for name, value in msgspec.to_builtins(Limits()).items():
            draw, wanted = chance.random(), value
            if draw < 0.1:
                wanted = None
            elif draw < 0.4 and isinstance(value, float):
                wanted = value * 10.0 ** chance.uniform(-9.0, 9.0)
            elif draw < 0.4 and isinstance(value, bool):
                wanted = not value
            with suppress(msgspec.ValidationError):
                msgspec.convert({name: wanted}, Limits)
                given.setdefault(name, wanted)
        with suppress(ConfigurationError):
            return parsed(given)


def parsed(defaults: dict[str, object]) -> LimitSet:
    return LimitSet(limits_file.parse(json.dumps({"defaults": defaults})))


def verdicts() -> list[str]:
    """Of a book that holds something or nothing, on orders from a seed."""
    chance = random.Random(7)

    def number() -> float:
        return chance.choice(EDGES) if chance.random() < 0.6 else chance.uniform(-1e3, 1e3)

    said = []
    # More lots than an integer holds, and than a double does.
    for lot, quantity, price in ((1e-8, 1e14, 1e-9), (0.001, 1e30, 1e-20), (0.001, 1e307, 1e-300)):
        order = Order(quantity, price, math.nan, math.nan, math.nan, price, 1, NOW_NS, 0, 0, True, 1e9)
        said.append(repr(judged(parsed({"max_order_quantity": None, "lot": lot}), "AAPL", order, 0.0)))
    for turn in range(COUNT):
        limits = LimitSet() if turn % 3 == 0 else some_limits(chance)
        if chance.random() < 0.5:
            held, price = chance.choice([0.0, 700.0]), 100.0
            order = Order(
                float(chance.randint(-450, 450)), price, math.nan, math.nan, math.nan, price, 1, NOW_NS, 0, 0, True, 1e9
            )  # fmt: skip
        else:
            held = number()
            order = Order(
                number(), number(), number(), number(), math.nan, number(), 1, NOW_NS, chance.randrange(10**11),
                chance.choice(list(SEVERITY.values())), chance.random() < 0.8, number(),
            )  # fmt: skip
        said.append(repr(judged(limits, "AAPL", order, held)))
    return said


def test_interpreted_rules_answer_as_compiled_ones_to_the_last_bit():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"from {__name__} import verdicts; print(*verdicts(), sep='\\n')"],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    interpreted = done.stdout.splitlines()
    assert interpreted == verdicts()
    assert len(set(interpreted)) > 0.8 * COUNT
    assert {said.partition(":")[0].rpartition(".")[2] for said in interpreted} == {"ACCEPT", "CLIP", "DENY"}

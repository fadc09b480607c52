"""simulate:SCENARIO - quotes and trades of a regime-switching market, the same for the same seed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from trading.errors import SourceError
from trading.history.source import Record, Source
from trading.market import Tick

#: Ticks of a symbol until its pressure has lost two thirds.
MEMORY = 1000.0
START_NS = 1_704_067_200_000_000_000  # 2024-01-01 UTC


class Regime(Struct, frozen=True):
    """Drift and volatility of ln price a tick; `edge` is how much of the drift a quote's sizes foretell.

    With an edge each symbol has a hidden pressure z, an autoregression of unit variance that forgets within
    `memory` of its ticks: the drift is edge x tanh(z), and tanh(z) is the imbalance of the quoted sizes.
    """

    drift: float
    volatility: float
    edge: float = 0.0
    memory: float = MEMORY


CALM = Regime(0.0, 2e-5)
BULL = Regime(8e-6, 4e-5)
BEAR = Regime(-1.2e-5, 9e-5)
CRASH = Regime(-8e-5, 3e-4)

PLANTED = Regime(0.0, 4e-5, edge=8e-6)
#: Of the same looks, and what its quotes foretell is the opposite.
CONTRARY = Regime(0.0, 4e-5, edge=-8e-6)
#: Told by the quotes, and soon over: what prices have done says nothing of it.
BRIEF = Regime(0.0, 4e-5, edge=1.6e-5, memory=30.0)
BRIEF_CONTRARY = Regime(0.0, 4e-5, edge=-1.6e-5, memory=30.0)

SCENARIOS: dict[str, tuple[Regime, ...]] = {
    "calm": (CALM,),
    "trend": (BULL,),
    "crash": (CALM, CRASH, BEAR),
    "regimes": (BULL, CALM, BEAR),
    "signal": (PLANTED,),
    "contrary": (CONTRARY,),
    "brief": (BRIEF,),
    "brief-contrary": (BRIEF_CONTRARY,),
}


def open_simulation(spec: str, scenario: str, options: dict[str, str]) -> Source:
    """Options: seed (0), ticks (100000), symbols (2)."""
    if scenario not in SCENARIOS:
        raise SourceError(f"{spec!r}: unknown scenario; expected one of {', '.join(SCENARIOS)}")
    numbers = {}
    for name, default in (("seed", 0), ("ticks", 100_000), ("symbols", 2)):
        text = options.pop(name, str(default))
        if not text.isdigit() or (name != "seed" and int(text) == 0):
            raise SourceError(f"{spec!r}: {name}={text} is no positive whole number")
        numbers[name] = int(text)
    return Source(spec, lambda _: read(SCENARIOS[scenario], **numbers))


def read(regimes: tuple[Regime, ...], seed: int, ticks: int, symbols: int) -> Iterator[Record]:
    """Poisson arrivals, 100 a second over all symbols; a regime lasts 2,000 ticks on average."""
    return (record for record, _ in with_truth(regimes, seed, ticks, symbols))


def with_truth(regimes: tuple[Regime, ...], seed: int, ticks: int, symbols: int) -> Iterator[tuple[Record, Regime]]:
    """As `read`, each tick with the regime that moved it: what a detector should find."""
    market = Market(regimes, seed, symbols)
    return (market.next() for _ in range(ticks))


class Market:
    """A market that goes on, tick by tick.

    Attributes:
        regimes: that take turns; others may be set at any time: the market turns, and its prices and clock go on.
    """

    def __init__(self, regimes: tuple[Regime, ...], seed: int, symbols: int) -> None:
        """At its beginning."""
        self.regimes = regimes
        self._random = np.random.default_rng(seed)
        self._log_price = np.log(100.0 * (1.0 + np.arange(symbols)))
        self._pressure = np.zeros(symbols)
        self._regime, self._time_ns = 0, START_NS

    def next(self) -> tuple[Record, Regime]:
        """A tick, and the regime that moved it."""
        random, log_price, pressure = self._random, self._log_price, self._pressure
        self._time_ns += int(random.exponential(1e7))
        if random.random() < 1.0 / 2_000.0:
            self._regime += 1
        symbol = int(random.integers(len(log_price)))
        now = self.regimes[self._regime % len(self.regimes)]
        log_price[symbol] += now.drift + now.volatility * random.standard_normal()
        tilt = 0.0
        if now.edge:
            log_price[symbol] += now.edge * math.tanh(pressure[symbol])
            stay = math.exp(-1.0 / now.memory)
            pressure[symbol] = stay * pressure[symbol] + math.sqrt(1.0 - stay**2) * random.standard_normal()
            tilt = math.tanh(pressure[symbol])
        tick = to_tick(random, symbol, self._time_ns, math.exp(log_price[symbol]), tilt)
        return Record(self._time_ns, tick), now


def to_tick(random: np.random.Generator, symbol: int, time_ns: int, mid: float, tilt: float = 0.0) -> Tick:
    """Three quotes in four, else a trade at the touch; with a `tilt` in (-1, 1), that is the sizes' imbalance."""
    half = mid * 5e-5
    name = f"SIM{symbol}"
    if random.random() < 0.25:
        side = 1.0 if random.random() < 0.5 else -1.0
        return Tick(name, time_ns, last=mid + side * half, last_size=float(random.exponential(2.0)))
    sizes = random.exponential(10.0, 2)
    if tilt:
        sizes = sizes.sum() * np.array([0.5 + 0.5 * tilt, 0.5 - 0.5 * tilt])
    return Tick(name, time_ns, mid - half, mid + half, float(sizes[0]), float(sizes[1]))

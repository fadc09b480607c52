"""A million questions as of a time or an offset: none is answered with anything newer, and none with anything older
than the newest that may be known.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import pytest

from services.data.archive.store import PartitionProgress
from services.data.market.following import rows_of
from services.data.market.lived import NONE_YET, LivedMarket
from tests.unit.services.data.fakes import BEGIN_NS, messages_of, some_ticks
from trading.features.engine import FeatureEngine

SYMBOLS = tuple(f"S{k}" for k in range(8))
SECOND = 1_000_000_000


@pytest.mark.slow
def test_a_million_random_questions_none_newer():
    count, asked = 20_000, 1_000_000
    ticks = some_ticks(count, SYMBOLS, seed=3, late=0.3)
    market, part = LivedMarket(10**9), PartitionProgress(FeatureEngine())
    market.begin({0: 0}, [], ())
    messages = messages_of(ticks)
    for begin in range(0, count, 500):
        mine = list(zip(messages[begin : begin + 500], ticks[begin : begin + 500], strict=True))
        market.add(0, rows_of(part, mine), begin + 500, 0)
    offsets, times = {s: [] for s in SYMBOLS}, {s: [] for s in SYMBOLS}
    for k, tick in enumerate(ticks):
        offsets[tick.symbol].append(k)
        times[tick.symbol].append(max([tick.event_time_ns, *times[tick.symbol][-1:]]))
    rng = np.random.default_rng(11)
    symbols, by_time = rng.integers(0, len(SYMBOLS), asked), rng.random(asked) < 0.5
    places, moments = rng.integers(0, count, asked), BEGIN_NS + rng.integers(-50, count + 50, asked) * SECOND
    for k in range(asked):
        symbol = SYMBOLS[symbols[k]]
        if by_time[k]:
            moment = int(moments[k])
            found, expected = market.as_of(symbol, 0, time_ns=moment), bisect_right(times[symbol], moment) - 1
        else:
            moment = None
            found, expected = (
                market.as_of(symbol, 0, offset=int(places[k])),
                bisect_right(offsets[symbol], places[k]) - 1,
            )
        if expected < 0:
            assert found.place == NONE_YET
            continue
        assert found.rows.offsets[0] == offsets[symbol][expected]
        assert moment is None or found.rows.state_time_ns[0] <= moment
        assert moment is not None or found.rows.offsets[0] <= places[k]

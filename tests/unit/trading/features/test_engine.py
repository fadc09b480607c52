"""The kernel: the same bits however the stream is cut, and defined behaviour at every edge."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.paths import GOLDEN
from trading.features.definitions import FEATURE_VERSION, FEATURES, WARM_TICKS
from trading.features.engine import FeatureEngine
from trading.history import open_source
from trading.market import Tick, TickBatch

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
ROWS = GOLDEN / "features_v1.json"

price = st.floats(1e-6, 1e6)
size = st.floats(0, 1e9)


@st.composite
def ticks(draw):
    return Tick(
        draw(st.sampled_from(["A", "B", "C"])),
        START + draw(st.integers(-10 * SECOND, 40 * 86_400 * SECOND)),
        bid=draw(st.none() | price),
        ask=draw(st.none() | price),
        bid_size=draw(st.none() | size),
        ask_size=draw(st.none() | size),
        last=draw(st.none() | price),
        last_size=draw(st.none() | size),
    )


def rows(stream, cuts=()):
    engine = FeatureEngine()
    edges = [0, *cuts, len(stream)]
    parts = [stream[a:b] for a, b in itertools.pairwise(edges) if b > a]
    return np.concatenate([engine.update(TickBatch.from_ticks(p)).values for p in parts])


def column(values, name):
    return values[:, FEATURES.index(name)]


def walk(n, seed=0, gap_ns=SECOND, symbol="A"):
    random = np.random.default_rng(seed)
    mids = 100 * np.exp(np.cumsum(random.normal(0, 1e-3, n)))
    return [
        Tick(symbol, START + k * gap_ns, m - 0.01, m + 0.01, 3.0, 1.0, last=m, last_size=2.0)
        for k, m in enumerate(mids.tolist())
    ]


@settings(deadline=None, max_examples=60)
@given(st.lists(ticks(), min_size=2, max_size=80), st.data())
def test_any_split_gives_the_same_bits(stream, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=6)))
    whole = rows(stream)
    assert whole.tobytes() == rows(stream, cuts).tobytes()
    assert whole.tobytes() == rows(stream, range(1, len(stream))).tobytes()


@settings(deadline=None, max_examples=60)
@given(st.lists(ticks(), min_size=1, max_size=80))
def test_every_feature_is_finite_whatever_is_unknown(stream):
    assert np.isfinite(rows(stream)).all()


@settings(deadline=None, max_examples=30)
@given(st.lists(ticks(), min_size=1, max_size=60))
def test_symbols_do_not_touch_each_other(stream):
    together = rows(stream)
    for symbol in {t.symbol for t in stream}:
        mine = [k for k, t in enumerate(stream) if t.symbol == symbol]
        assert together[mine].tobytes() == rows([stream[k] for k in mine]).tobytes()


def test_golden_rows_of_version_1_have_not_changed():
    golden = json.loads(ROWS.read_text())
    stream = [r.tick for r in open_source(golden["source"]).records()]
    values = rows(stream)
    assert golden["feature_version"] == FEATURE_VERSION
    assert golden["features"] == list(FEATURES)
    for index, wanted in golden["rows"].items():
        np.testing.assert_allclose(values[int(index)], wanted, rtol=1e-5, atol=1e-7)


def test_warm_only_after_enough_ticks_with_a_price():
    engine = FeatureEngine()
    warm = engine.update(TickBatch.from_ticks(walk(WARM_TICKS + 5))).warm
    assert not warm[: WARM_TICKS - 1].any()
    assert warm[WARM_TICKS - 1 :].all()
    no_price = [Tick("X", START + k) for k in range(WARM_TICKS * 2)]
    assert not engine.update(TickBatch.from_ticks(no_price)).warm.any()
    # Ticks without a price do not make the first one with a price warm.
    assert not engine.update(TickBatch.from_ticks([Tick("X", START + 10**12, last=1.0)])).warm.any()


def test_returns_look_back_their_horizon():
    stream = walk(2000)
    mids = np.log([(t.bid + t.ask) / 2 for t in stream])
    values = rows(stream)
    # A tick a second: the 10 s return is against the last mid before t - 10 s on the grid of 1.25 s.
    for k in (50, 777, 1999):
        time_ns = stream[k].event_time_ns
        boundary = time_ns // (10 * SECOND // 8) * (10 * SECOND // 8) - 10 * SECOND
        before = max(j for j in range(k) if stream[j].event_time_ns < boundary)
        assert column(values, "return_10s")[k] == pytest.approx(mids[k] - mids[before], abs=1e-7)


def test_returns_over_a_history_that_is_too_short_begin_at_the_first_tick():
    values = rows(walk(100))
    mids = np.log([(t.bid + t.ask) / 2 for t in walk(100)])
    np.testing.assert_allclose(column(values, "return_20d"), mids - mids[0], atol=1e-6)


def test_volatility_halves_its_square_over_a_half_life():
    jump = [Tick("A", START, last=100.0), Tick("A", START + SECOND, last=101.0)]
    later = [*jump, Tick("A", START + 11 * SECOND, last=101.0)]
    first, second = column(rows(jump), "volatility_10s")[-1], column(rows(later), "volatility_10s")[-1]
    assert first == pytest.approx(math.log(1.01), rel=1e-5)
    assert (second / first) ** 2 == pytest.approx(0.5, rel=1e-4)


def test_book_features_have_their_textbook_values():
    values = rows([Tick("A", START, 99.0, 101.0, 3.0, 1.0)])
    assert column(values, "spread_bps")[0] == pytest.approx(200.0)
    assert column(values, "size_imbalance")[0] == pytest.approx(0.5)
    # Three times the size on the bid pushes the fair price towards the ask.
    assert column(values, "microprice_deviation_bps")[0] == pytest.approx(50.0)


def test_trade_flow_follows_the_side_of_the_trade():
    quote = Tick("A", START, 99.0, 101.0)
    buys = [quote, *(Tick("A", START + k * SECOND, last=101.0, last_size=2.0) for k in range(1, 6))]
    sells = [quote, *(Tick("A", START + k * SECOND, last=99.0, last_size=2.0) for k in range(1, 6))]
    assert column(rows(buys), "trade_flow_10s")[-1] == pytest.approx(1.0)
    assert column(rows(sells), "trade_flow_10s")[-1] == pytest.approx(-1.0)


def test_rsi_of_a_market_that_only_rises_is_one():
    rising = [Tick("A", START + k * SECOND, last=100.0 + k) for k in range(50)]
    assert column(rows(rising), "rsi_14")[-1] == pytest.approx(1.0)


def test_drawdown_is_measured_from_the_rolling_high_and_forgets_it():
    peak = [
        Tick("A", START, last=100.0),
        Tick("A", START + SECOND, last=110.0),
        Tick("A", START + 2 * SECOND, last=99.0),
    ]
    assert column(rows(peak), "drawdown_10m")[-1] == pytest.approx(math.log(99 / 110), rel=1e-5)
    later = [*peak, Tick("A", START + 3600 * SECOND, last=99.0)]
    assert column(rows(later), "drawdown_10m")[-1] == pytest.approx(0.0, abs=1e-7)
    assert column(rows(later), "drawdown_20d")[-1] == pytest.approx(math.log(99 / 110), rel=1e-5)


def test_a_late_tick_is_taken_at_the_newest_time():
    stream = walk(20)
    late = Tick("A", START, last=200.0)
    on_time = Tick("A", stream[-1].event_time_ns, last=200.0)
    assert rows([*stream, late]).tobytes() == rows([*stream, on_time]).tobytes()


def test_memory_is_constant_in_time():
    engine = FeatureEngine()
    for _ in range(5):
        engine.update(TickBatch.from_ticks(walk(500)))
    assert len(engine) == 1
    assert len(engine._floats) == 16


def test_a_loaded_engine_goes_on_where_the_dumped_one_was():
    engine = FeatureEngine()
    engine.update(TickBatch.from_ticks(walk(120)[:100]))
    again = FeatureEngine.load(*engine.dump())
    rest = TickBatch.from_ticks([*walk(120)[100:], Tick("NEW", START, last=3.0)])
    assert again.update(rest).values.tobytes() == engine.update(rest).values.tobytes()
    with pytest.raises(ValueError, match="expected"):
        FeatureEngine.load(["A"], *engine.dump()[1:])


def test_many_symbols_grow_the_table():
    stream = [Tick(f"S{k}", START, last=1.0 + k) for k in range(1000)]
    market = FeatureEngine().update(TickBatch.from_ticks(stream)).market
    np.testing.assert_array_equal(market[:, 3], 1.0 + np.arange(1000))


def test_a_constant_spread_has_no_z_score_even_after_trades_came_first():
    trades = [Tick("A", START + k, last=100.0) for k in range(5)]
    quotes = [Tick("A", START + 10 + k, 99.0, 101.0) for k in range(100)]
    np.testing.assert_allclose(column(rows([*trades, *quotes]), "spread_zscore"), 0.0, atol=1e-6)


def test_a_first_trade_at_the_mid_has_no_side():
    stream = [Tick("A", START, 99.0, 101.0), Tick("A", START + 1, last=100.0, last_size=1.0)]
    assert column(rows(stream), "trade_flow_10s")[-1] == 0.0


def test_the_age_of_the_quote_is_that_of_its_older_side():
    stream = [
        Tick("A", START, last=100.0),
        Tick("A", START + 1 * SECOND, 99.0, 101.0),
        Tick("A", START + 5 * SECOND, bid=99.5),
        Tick("A", START + 9 * SECOND, last=100.0),
    ]
    found = FeatureEngine().update(TickBatch.from_ticks(stream)).quote_time_ns - START
    assert found.tolist() == [0, SECOND, SECOND, SECOND]

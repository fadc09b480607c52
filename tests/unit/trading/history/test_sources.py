"""Readers: what they read, what they drop and say, and what they refuse."""

from __future__ import annotations

import gzip
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.paths import SHARED
from trading.errors import SourceError
from trading.history import open_source
from trading.market import Tick

QUOTE = '{"stream":"x@bookTicker","data":{"e":"bookTicker","s":"BTCUSDT","b":"10.5","B":"2","a":"10.6","A":"3","T":1700000000001}}'
TRADE = '{"stream":"x@trade","data":{"e":"trade","s":"BTCUSDT","p":"10.55","q":"0.5","T":1700000000002}}'
DEPTH = '{"stream":"x@depth","data":{"e":"depthUpdate","s":"BTCUSDT","T":1700000000003,"b":[["1","2"]],"a":[]}}'


def ticks(spec):
    return [r.tick for r in open_source(spec).records()]


@pytest.fixture
def binance(tmp_path):
    def write(*lines):
        path = tmp_path / "feed.gz"
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
        return f"binance:{path}"

    return write


def test_binance_reads_quotes_and_trades_and_passes_over_depth(binance):
    source = open_source(binance(f"5 {QUOTE}", f"6 {DEPTH}", f"7 {TRADE}", '8 {"lastUpdateId":1,"bids":[]}'))
    found = list(source.records())
    assert [r.arrival_ns for r in found] == [5, 7]
    assert found[0].tick == Tick("BTCUSDT", 1_700_000_000_001_000_000, 10.5, 10.6, 2.0, 3.0)
    assert found[1].tick == Tick("BTCUSDT", 1_700_000_000_002_000_000, last=10.55, last_size=0.5)
    assert source.dropped.count == 0


def test_a_bad_line_is_counted_with_its_number(binance):
    source = open_source(
        binance(f"5 {QUOTE}", "rubbish", f"x {QUOTE}", f"6 {QUOTE.replace('10.5', '-1', 1)}", f"7 {TRADE}")
    )
    assert len(list(source.records())) == 2
    assert source.dropped.count == 3
    assert [b.number for b in source.dropped.first] == [2, 3, 4]


def test_a_file_without_any_tick_says_what_was_wrong(binance):
    with pytest.raises(SourceError, match="line 1"):
        ticks(binance("rubbish"))


def test_a_truncated_gzip_is_named(binance, tmp_path):
    binance(*[f"{k} {QUOTE}" for k in range(200)])
    path = tmp_path / "feed.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match="no whole gzip file"):
        ticks(f"binance:{path}")


def test_lean_takes_date_and_symbol_from_the_name(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("20140508_eurusd_tick_quote.csv", "8715,1.1,1.2\nbad\n9000,1.1,-1\n9001,1.15,1.25\n")
    source = open_source(f"lean:{path}")
    found = list(source.records())
    assert found[0].tick == Tick("EURUSD", 1_399_507_208_715_000_000, bid=1.1, ask=1.2)
    assert len(found) == 2
    assert [b.number for b in source.dropped.first] == [2, 3]


def test_csv_finds_its_columns_and_knows_unknown(tmp_path):
    path = tmp_path / "prices.csv"
    path.write_text("Timestamp,Bid,Ask,Bid_Size\n2024-01-02 03:04:05.5,1,2,\n1704164645501,1.5,2.5,7\nx,1,2,3\n")
    source = open_source(f"csv:{path}?symbol=EUR/USD")
    found = [r.tick for r in source.records()]
    assert found[0] == Tick("EUR/USD", 1_704_164_645_500_000_000, 1.0, 2.0)
    assert found[1] == Tick("EUR/USD", 1_704_164_645_501_000_000, 1.5, 2.5, 7.0)
    assert source.dropped.count == 1


def test_csv_bars_become_trades_at_the_close(tmp_path):
    path = tmp_path / "bars.csv"
    path.write_text("date,open,high,low,close,volume\n2024-01-02,1,3,0.5,2,100\n")
    assert ticks(f"csv:{path}") == [Tick("BARS", 1_704_153_600_000_000_000, last=2.0, last_size=100.0)]


def test_parquet_reads_many_symbols(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(
        pa.table(
            {"event_time_ns": [10**18, 10**18 + 1], "symbol": ["A", "B"], "bid": [1.0, None], "ask": [2.0, 3.0]}
        ),
        path,
    )
    assert ticks(f"parquet:{path}") == [Tick("A", 10**18, 1.0, 2.0), Tick("B", 10**18 + 1, ask=3.0)]


def test_skfolio_is_the_default_data():
    found = ticks("skfolio:sp500")
    assert len(found) == 166_260
    assert len({t.symbol for t in found}) == 20
    # 16:00 in New York is 21:00 UTC in winter.
    assert found[0] == Tick("AAPL", 631_314_000_000_000_000, last=0.264)


def test_a_simulation_is_the_same_for_the_same_seed():
    spec = "simulate:crash?seed=4&ticks=500&symbols=3"
    assert ticks(spec) == ticks(spec)
    assert ticks(spec) != ticks(spec.replace("seed=4", "seed=5"))
    assert {t.symbol for t in ticks(spec)} == {"SIM0", "SIM1", "SIM2"}


def test_reading_again_starts_again():
    source = open_source("simulate:calm?ticks=10")
    assert list(source.records()) == list(source.records())


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nonsense", "expected one of skfolio:sp500"),
        ("binance:", "no path given"),
        ("binance:/nowhere.gz", "/nowhere.gz is no file"),
        ("skfolio:ftse", "only data set"),
        ("simulate:boom", "unknown scenario"),
        ("simulate:calm?seed=x", "seed=x"),
        ("simulate:calm?ticks=0", "ticks=0"),
        ("simulate:calm?sed=1", "unknown option sed"),
    ],
)
def test_a_wrong_source_says_what_was_expected(spec, says):
    with pytest.raises(SourceError, match=says.replace("?", r"\?")):
        open_source(spec)


@pytest.mark.parametrize(
    ("kind", "name"), [("lean", "x.zip"), ("parquet", "x.parquet"), ("binance", "x.gz"), ("csv", "x.csv")]
)
def test_a_file_of_another_kind_is_refused_by_name(kind, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"\x00\x01\x02 not what it says\n")
    with pytest.raises(SourceError, match=name):
        ticks(f"{kind}:{path}")


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        ("binance:binance_usdm_btcusdt_20240808.gz", 87_402),
        ("lean:oanda_eurusd_20140508_quote.zip", 87_833),
        ("csv:btc_perp_20211231_20220201_1m.csv.gz", 45_031),
    ],
)
def test_recorded_market_data_is_read_whole(spec, count):
    kind, name = spec.split(":")
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not here: set ULTRATHINK_DATA to the folder of recorded market data")
    source = open_source(f"{kind}:{path}")
    assert sum(1 for _ in source.records()) == count
    assert source.dropped.count == 0

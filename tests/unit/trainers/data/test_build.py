"""Datasets: the gateway's own features, nothing of the future, nothing lost without a count."""

from __future__ import annotations

import json
import time

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.trainers.conftest import dataset, quiet
from trading.errors import ConfigurationError, SourceError
from trading.features.definitions import FEATURES
from trading.features.engine import FeatureEngine
from trading.history import open_source
from trading.history.source import Record, Source
from trading.market import TickBatch
from trainers.data import leakage, manifest
from trainers.data.bars import Bars, Sampling
from trainers.data.build import BuildSettings, build
from trainers.data.dataset import open_dataset, room_maker
from trainers.evaluation.inspection import inspect, picture

SPEC = "simulate:regimes?seed=3&ticks=8000&symbols=2"
SECOND = 1_000_000_000


def source_of(records, spec="list"):
    """A source of these records."""
    return Source(spec, lambda _: iter(records))


def shuffled_after(records, cut, seed):
    """The same past; the prices of the rest of the ticks in another order."""
    later = [r.tick for r in records[cut:]]
    order = np.random.default_rng(seed).permutation(len(later))
    moved = [
        Record(
            r.arrival_ns,
            msgspec.structs.replace(later[k], symbol=r.tick.symbol, event_time_ns=r.tick.event_time_ns),
        )
        for r, k in zip(records[cut:], order.tolist(), strict=True)
    ]
    return records[:cut] + moved


def test_the_features_are_the_gateways_own(tmp_path):
    data = dataset(tmp_path / "d", SPEC)
    batch = TickBatch.from_ticks([r.tick for r in open_source(SPEC).records()])
    rows = FeatureEngine().update(batch)
    np.testing.assert_array_equal(data.features, rows.values[rows.warm])
    np.testing.assert_array_equal(data.market, rows.market[rows.warm])
    assert data.manifest.ticks == 8000
    assert data.manifest.left_out["warming up"] == int((~rows.warm).sum())


def test_a_shuffled_future_does_not_change_the_past(tmp_path):
    records = list(open_source(SPEC).records())
    cut = 6000
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, ticks in ((one, records), (other, shuffled_after(records, cut, 1))):
        build([source_of(ticks)], BuildSettings(horizon_ns=SECOND // 10), folder, quiet)
    a, b = open_dataset(one), open_dataset(other)
    past = a.time_ns < records[cut].tick.event_time_ns
    np.testing.assert_array_equal(a.features[past], b.features[past])
    assert not np.array_equal(a.features[~past], b.features[~past])
    # Labels that were known before the cut are the same, and only they must be.
    known = past & (a.labels.end_ns < records[cut].tick.event_time_ns)
    assert known.sum() > 5000
    for name in ("side", "realised", "end_ns", "deviation"):
        np.testing.assert_array_equal(getattr(a.labels, name)[known], getattr(b.labels, name)[known])


def test_a_planted_future_feature_is_caught_and_named(tmp_path):
    folder = tmp_path / "d"
    data = dataset(folder, SPEC)
    assert leakage.suspects(data) == []
    noise = np.random.default_rng(0).normal(size=len(data)) * data.labels.realised.std() * 0.5
    data.features[:, FEATURES.index("macd")] = (data.labels.realised + noise).astype(np.float32)
    assert [s.feature for s in leakage.suspects(data)] == ["macd"]
    with pytest.raises(ConfigurationError, match=r"leakage: macd agrees with the label at 0\.\d\d"):
        leakage.check(data)
    assert inspect(data).suspects[0].feature == "macd"


def test_the_data_hash_names_the_ticks(tmp_path):
    hashes = [
        dataset(tmp_path / str(k), f"simulate:calm?seed={seed}&ticks=6000&symbols=1").manifest
        for k, seed in enumerate((1, 1, 2))
    ]
    assert hashes[0].data_hash == hashes[1].data_hash != hashes[2].data_hash
    assert hashes[0].dataset_hash == hashes[1].dataset_hash


def test_parquet_by_column_gives_what_its_rows_give(tmp_path):
    ticks = [r.tick for r in open_source("simulate:calm?ticks=3000").records()]
    path = tmp_path / "ticks.parquet"
    columns = {name: [getattr(t, name) for t in ticks] for name in ("symbol", "bid", "ask", "last", "last_size")}
    pq.write_table(pa.table({"event_time_ns": [t.event_time_ns for t in ticks], **columns}), path)
    source = open_source(f"parquet:{path}")
    by_column = list(source.batches(512))
    by_row = TickBatch.from_ticks([r.tick for r in source.records()])
    assert tuple(s for b in by_column for s in b.symbols) == by_row.symbols
    np.testing.assert_array_equal(np.concatenate([b.event_time_ns for b in by_column]), by_row.event_time_ns)
    np.testing.assert_array_equal(np.concatenate([b.quotes for b in by_column]), by_row.quotes)


def test_rows_that_are_no_ticks_are_counted_with_their_reason(tmp_path):
    path = tmp_path / "ticks.parquet"
    pq.write_table(
        pa.table({"timestamp": [1, 2, 3, 4], "price": [1.0, -1.0, 2.0, np.inf], "symbol": ["A", "A", "A B", "A"]}),
        path,
    )
    source = open_source(f"parquet:{path}")
    assert [len(b) for b in source.batches(10)] == [1]
    assert source.dropped.count == 3
    assert [bad.number for bad in source.dropped.first] == [2, 3, 4]


def test_several_sources_are_merged_by_time_of_arrival(tmp_path):
    sources = [source_of([Record(r.arrival_ns, msgspec.structs.replace(r.tick, symbol=name)) for r in
                          open_source(f"simulate:regimes?seed={seed}&ticks=6000&symbols=1").records()], name)
               for seed, name in ((1, "AAA"), (2, "BBB"))]  # fmt: skip
    made = build(sources, BuildSettings(), tmp_path / "d", quiet)
    data = open_dataset(tmp_path / "d")
    assert (np.diff(data.time_ns) >= 0).all()
    assert [(s.spec, s.ticks) for s in made.sources] == [("AAA", 6000), ("BBB", 6000)]
    assert {data.names[k] for k in np.unique(data.symbols)} == {"AAA", "BBB"}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("simulate:calm?ticks=500", "at least 5,000 are needed"),
        ("simulate:calm?ticks=6000&symbols=200", "warming up"),
    ],
)
def test_too_little_data_is_refused_and_leaves_nothing(tmp_path, spec, says):
    with pytest.raises(SourceError, match=says):
        build([open_source(spec)], BuildSettings(), tmp_path / "d", quiet)
    assert list(tmp_path.iterdir()) == []


def constant(n, price=100.0, step_ns=SECOND):
    """A price that stands still."""
    tick = next(iter(open_source("simulate:calm?ticks=1").records())).tick
    made = [msgspec.structs.replace(tick, symbol="X", event_time_ns=SECOND + k * step_ns, bid=None, ask=None,
                                    bid_size=None, ask_size=None, last=price, last_size=None) for k in range(n)]  # fmt: skip
    return [Record(t.event_time_ns, t) for t in made]


def test_a_constant_price_teaches_nothing(tmp_path):
    with pytest.raises(SourceError, match="price of X never changes"):
        build([source_of(constant(6000))], BuildSettings(), tmp_path / "d", quiet)


def test_ticks_of_the_future_are_left_out_and_counted(tmp_path):
    records = list(open_source(SPEC).records())
    future = msgspec.structs.replace(records[0].tick, event_time_ns=time.time_ns() + 10 * 86_400 * SECOND)
    made = build(
        [source_of([*records, Record(future.event_time_ns, future)])], BuildSettings(), tmp_path / "d", quiet
    )
    assert made.left_out["time in the future"] == 1
    with pytest.raises(SourceError, match="every event time lies in the future"):
        build([source_of([Record(1, future)])], BuildSettings(), tmp_path / "e", quiet)


def test_gaps_and_late_ticks_are_counted(tmp_path):
    records = list(open_source("simulate:calm?seed=1&ticks=6000&symbols=1").records())
    later = [
        Record(
            r.arrival_ns + 3600 * SECOND,
            msgspec.structs.replace(r.tick, event_time_ns=r.tick.event_time_ns + 3600 * SECOND),
        )
        for r in records[3000:]
    ]
    early = msgspec.structs.replace(records[3000].tick, event_time_ns=records[2000].tick.event_time_ns)
    made = build(
        [source_of([*records[:3000], Record(records[3000].arrival_ns, early), *later])],
        BuildSettings(horizon_ns=SECOND),
        tmp_path / "d",
        quiet,
    )
    (symbol,) = made.symbols
    assert symbol.gaps == 1
    assert symbol.longest_gap_ns == pytest.approx(3600 * SECOND, rel=0.01)
    assert symbol.late == 1


def test_volume_bars_need_volumes(tmp_path):
    with pytest.raises(SourceError, match="tells no sizes of trades, so volume:10 bars cannot be made"):
        build(
            [source_of(constant(10) + constant(10, 101.0))],
            BuildSettings(Sampling.parse("volume:10"), "volume:10"),
            tmp_path / "d",
            quiet,
        )


def test_a_dataset_of_another_feature_version_is_refused(tmp_path):
    folder = tmp_path / "d"
    dataset(folder, SPEC)
    path = folder / manifest.NAME
    told = json.loads(path.read_bytes())
    for change, says in (
        ({"feature_version": 0}, "built with feature version 0, this code has 1"),
        ({"format": 9}, "format 9"),
    ):
        path.write_text(json.dumps({**told, **change}))
        with pytest.raises(ConfigurationError, match=says):
            open_dataset(folder)
    path.write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        open_dataset(folder)


def test_a_dataset_that_was_changed_is_refused(tmp_path):
    folder = tmp_path / "d"
    dataset(folder, SPEC)
    (file,) = folder.glob("*.parquet")
    table = pq.read_table(file)
    for changed, says in (
        (table.append_column("tomorrow", table["mid"]), "unknown tomorrow"),
        (table.drop_columns(["macd"]), "missing macd"),
        (table.set_column(table.schema.get_field_index("macd"), "macd", pa.array(np.full(len(table), np.nan, np.float32))), "macd of row 0 is not finite"),
    ):  # fmt: skip
        pq.write_table(changed, file)
        with pytest.raises(ConfigurationError, match="is not what the manifest says"):
            open_dataset(folder)
        told = json.loads((folder / manifest.NAME).read_bytes())
        told["files"][0]["sha256"] = manifest.file_hash(file)
        (folder / manifest.NAME).write_text(json.dumps(told))
        with pytest.raises(ConfigurationError, match=says):
            open_dataset(folder)
    outside = tmp_path / file.name
    file.rename(outside)
    for name in (file.name, str(outside), f"../{file.name}", "9" * 400, "\0"):
        told["files"][0]["name"] = name
        (folder / manifest.NAME).write_text(json.dumps(told))
        with pytest.raises(ConfigurationError, match="is missing"):
            open_dataset(folder)


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(ConfigurationError, match="is not empty"):
        build([open_source(SPEC)], BuildSettings(), tmp_path, quiet)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_what_is_larger_than_memory_is_mapped(tmp_path):
    assert not isinstance(room_maker(tmp_path, 1000)((5,), np.float32), np.memmap)
    mapped = room_maker(tmp_path, 10**12)((5,), np.float32)
    assert isinstance(mapped, np.memmap)
    assert list(tmp_path.iterdir()) == []  # the file goes with the process


@pytest.mark.parametrize("text", ["", "time", "ticks:5", "tick:0", "tick:-1", "time:5", "volume:x", "dollar:nan"])
def test_a_wrong_kind_of_bar_says_what_was_expected(text):
    with pytest.raises(ConfigurationError, match="expected"):
        Sampling.parse(text)


def closed(bars, times, prices, sizes):
    quotes = np.full((len(times), 6), np.nan)
    quotes[:, 4], quotes[:, 5] = prices, sizes
    return Bars(Sampling.parse(bars)).update(
        np.zeros(len(times), np.int64), np.array(times, np.int64) * SECOND, quotes, np.array(prices, float)
    )


def test_bars_close_with_the_first_tick_that_fills_them():
    times, prices, sizes = (
        [0, 3, 9, 10, 11, 25],
        [10.0, 12.0, 9.0, 11.0, 11.0, 13.0],
        [1.0, 2.0, 3.0, 4.0, 1.0, 1.0],
    )
    by_time = closed("time:10s", times, prices, sizes)
    assert by_time.mask.tolist() == [False, False, False, True, False, True]
    assert by_time.values[0].tolist() == [10.0, 12.0, 9.0, 6.0, 3.0]
    assert closed("tick:2", times, prices, sizes).mask.tolist() == [False, True, False, True, False, True]
    assert closed("volume:4", times, prices, sizes).mask.tolist() == [False, False, True, True, False, False]
    assert closed("dollar:30", times, prices, sizes).mask.tolist() == [False, True, False, True, False, False]
    assert closed("ticks", times, prices, sizes).mask.all()


def test_an_inspection_has_a_figure_for_every_feature(small):
    found = inspect(small)
    assert [f.name for f in found.features] == list(FEATURES)
    assert found.up + found.down + found.neither == pytest.approx(1.0)
    assert 0.0 < found.effective_rows < len(small)
    assert "spread_zscore" in found.constant
    assert len(picture(small).axes) == 4


def test_symbols_are_numbered_in_the_order_of_their_first_ticks(small):
    seen = list(dict.fromkeys(r.tick.symbol for r in open_source(small.manifest.named).records()))
    assert list(small.names) == seen


def test_a_file_with_one_symbol_behind_another_is_put_in_order_of_time(tmp_path):
    records = list(open_source(SPEC).records())
    stacked = sorted(records, key=lambda r: r.tick.symbol)
    build([source_of(stacked)], BuildSettings(horizon_ns=SECOND // 10), tmp_path / "d", quiet)
    build([source_of(records)], BuildSettings(horizon_ns=SECOND // 10), tmp_path / "e", quiet)
    one, other = open_dataset(tmp_path / "d"), open_dataset(tmp_path / "e")
    np.testing.assert_array_equal(one.time_ns, other.time_ns)
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.labels.end_ns, other.labels.end_ns)


def test_what_is_trained_on_the_next_row_is_purged_by_it(small):
    for symbol in range(len(small.names)):
        mine = np.flatnonzero(small.symbols == symbol)
        valid = small.labels.valid[mine[:-1]]
        assert (small.labels.end_ns[mine[:-1]] >= small.time_ns[mine[1:]])[valid].all()


@pytest.mark.parametrize("symbols", [["A", None, "B"], [1, 2, 3]])
def test_symbols_that_are_no_text_are_no_ticks(tmp_path, symbols):
    path = tmp_path / "ticks.parquet"
    pq.write_table(pa.table({"timestamp": [1, 2, 3], "price": [1.0, 1.0, 2.0], "symbol": symbols}), path)
    source = open_source(f"parquet:{path}")
    if symbols[0] == "A":
        assert [b.symbols for b in source.batches(10)] == [("A", "B")]
        assert source.dropped.count == 1
    else:
        with pytest.raises(SourceError, match="holds no tick"):
            list(source.batches(10))

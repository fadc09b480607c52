"""Labels ripen when their horizon has passed, and no clock ripens one early."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from tests.archives import logged, write_archive
from tests.unit.trainers.conftest import quiet
from tests.unit.trainers.online.conftest import HORIZON_NS
from trading.errors import SourceError
from trading.history import open_source
from trading.history.archive import Between
from trading.market import MID
from trainers.data.archived_columns import ArchivedColumns, read_columns
from trainers.data.dataset import open_dataset
from trainers.online.ripening import LivedSpan, open_lived, quoted, repeats, ripen, settled, tolerance_ns


def some_records(count, seed=5, symbols=3):
    return list(open_source(f"simulate:signal?seed={seed}&ticks={count}&symbols={symbols}").records())


def ripe(folder, out, stop, start=0):
    span = LivedSpan(folder, {0: start} if start else {}, {0: stop})
    ripen(span, HORIZON_NS, out, quiet)
    return open_dataset(out)


def labels_by_tick(data):
    """Of each ripe row, by symbol, time and price: what its label is."""
    found = {}
    for k in np.flatnonzero(data.labels.valid).tolist():
        key = (data.names[data.symbols[k]], int(data.time_ns[k]), float(data.market[k, MID]))
        labels = data.labels
        found[key] = (int(labels.side[k]), float(labels.realised[k]), int(labels.end_ns[k]))
    return found


def slow_label(path, place, deviation):
    """What a label is, by the definition: of (time, log mid) of a symbol; None where it is not known yet."""
    begin, price = path[place]
    realised = 0.0
    for time_ns, log_mid in path[place + 1 :]:
        if time_ns > begin + HORIZON_NS:
            return 0, realised, begin + HORIZON_NS
        realised = log_mid - price
        if realised >= 2.0 * deviation:
            return 1, realised, time_ns
        if realised <= -2.0 * deviation:
            return -1, realised, time_ns
    return None


def true_paths(records):
    """Mids of each symbol as they were, by the quotes alone; a trade moves none."""
    paths, quotes = {}, {}
    for record in records:
        tick = record.tick
        if tick.bid is not None:
            quotes[tick.symbol] = np.log((tick.bid + tick.ask) / 2.0)
        if tick.symbol in quotes:
            paths.setdefault(tick.symbol, []).append((tick.event_time_ns, quotes[tick.symbol]))
    return paths


def ahead(record, rng, n=0):
    """A tick that the broker takes now, dated some horizons ahead, and priced wildly."""
    later = int(rng.integers(2, 4)) * HORIZON_NS + n * 1_000_000
    mid = float(100.0 * (1.0 + rng.random()))
    told = replace(
        record.tick, event_time_ns=record.tick.event_time_ns + later, bid=mid, ask=mid * 1.0001, bid_size=1.0,
        ask_size=1.0, last=None, last_size=None,
    )  # fmt: skip
    return replace(record, tick=told)


def planted(records, seed=3, run=28):
    """The same ticks, and between them others that are dated ahead: alone, and in runs."""
    rng, found = np.random.default_rng(seed), []
    for k, record in enumerate(records):
        found.append(record)
        if k > 1_500 and k % 900 == 0:
            found += [ahead(record, rng, n) for n in range(1 if k % 1800 else run)]
    return found


def replayed_fast(records, speed):
    """As a feed that is played again at so many times its pace, years later: the broker's clock is another."""
    first = records[0].arrival_ns
    return [
        replace(r, arrival_ns=first + 10**17 + (r.arrival_ns - first) // speed) for r in records
    ]  # fmt: skip


def archived(folder, records):
    write_archive(folder, {0: logged([r.tick for r in records], [r.arrival_ns for r in records])})
    return len(records)


def check_labels(data, true, least):
    """Each ripe label is what the true ticks say, whatever else was told."""
    paths = true_paths(true)
    places = {(s, t): k for s, path in paths.items() for k, (t, _) in enumerate(path)}
    checked = sides = 0
    for k in np.flatnonzero(data.labels.valid).tolist():
        symbol = data.names[data.symbols[k]]
        # A row that is not one of the true ticks would have been planted.
        place = places[symbol, int(data.time_ns[k])]
        assert abs(float(np.log(data.market[k, MID])) - paths[symbol][place][1]) < 1e-12
        side, realised, end_ns = slow_label(paths[symbol], place, float(data.labels.deviation[k]))
        assert int(data.labels.side[k]) == side
        assert abs(float(data.labels.realised[k]) - realised) < 1e-12
        assert int(data.labels.end_ns[k]) >= end_ns
        checked, sides = checked + 1, sides + abs(side)
    assert checked > least
    assert sides > least // 50


@pytest.mark.parametrize("speed", [1, 20])
@pytest.mark.parametrize("run", [28, 60, 100])
def test_ticks_dated_ahead_ripen_nothing(tmp_path, run, speed):
    true = some_records(6_000)
    told = planted(true, run=run)
    assert len(told) > len(true) + 2 * run
    stop = archived(tmp_path / "archive", replayed_fast(told, speed) if speed > 1 else told)
    data = ripe(tmp_path / "archive", tmp_path / "rows", stop)
    check_labels(data, true, 4_000)
    assert data.manifest.left_out["dated ahead of those that came after it"] >= len(told) - len(true)


@pytest.mark.parametrize("count", [1, 40, 110, 190])
def test_ticks_dated_ahead_at_the_end_of_the_log_ripen_nothing(tmp_path, count):
    true, rng = some_records(5_000), np.random.default_rng(4)
    told = true + [ahead(true[-1], rng, n) for n in range(count)]
    stop = archived(tmp_path / "archive", told)
    check_labels(ripe(tmp_path / "archive", tmp_path / "rows", stop), true, 3_000)


def test_a_clock_that_was_moved_for_long_is_a_clock(tmp_path):
    true = some_records(6_000)
    moved = [
        replace(r, tick=replace(r.tick, event_time_ns=r.tick.event_time_ns + HORIZON_NS)) for r in true[3_000:]
    ]
    stop = archived(tmp_path / "archive", true[:3_000] + moved)
    data = ripe(tmp_path / "archive", tmp_path / "rows", stop)
    assert int((data.time_ns > moved[600].tick.event_time_ns).sum()) > 1_500


def test_late_ticks_accuse_nobody_and_say_no_price(tmp_path):
    true, rng = some_records(6_000), np.random.default_rng(6)
    told, held = [], []
    for k, record in enumerate(true):
        told.append(record)
        if rng.random() < 0.003:
            # What was true three seconds ago is told now.
            old = true[max(0, k - 300)].tick
            told.append(replace(record, tick=old))
            held.append(old)
    assert len(held) > 10
    stop = archived(tmp_path / "archive", told)
    data = ripe(tmp_path / "archive", tmp_path / "rows", stop)
    check_labels(data, true, 4_500)
    assert data.manifest.left_out["dated long before what its symbol had reached"] >= len(held) - 5


@pytest.mark.parametrize("spoil", ["sent twice", "the newest again", "old ones again"])
def test_ticks_that_are_told_again_are_named(tmp_path, spoil):
    true = some_records(12_000)
    again = {
        "sent twice": true[:6_000] + [r for one in true[6_000:] for r in (one, one)],
        "the newest again": true + true[-1_500:], "old ones again": true + true[2_000:5_000],
    }[spoil]  # fmt: skip
    last = again[-1].arrival_ns if spoil == "sent twice" else true[-1].arrival_ns
    stop = archived(tmp_path / "archive", [replace(r, arrival_ns=max(r.arrival_ns, last)) if k > 12_000 and
                                           spoil != "sent twice" else r for k, r in enumerate(again)])  # fmt: skip
    found = repeats(read_columns(tmp_path / "archive", Between({}, {0: stop}))).faults
    assert ("duplicated" if spoil == "sent twice" else "replayed") in {one.partition(":")[0] for one in found}
    honest = repeats(read_columns(tmp_path / "archive", Between({}, {0: 6_000})))
    assert honest.faults == []


def columns_of(symbols, dated, quotes):
    n = len(dated)
    return ArchivedColumns(
        tuple(symbols), np.zeros(n, np.int64), np.arange(n), np.array(dated, np.int64), np.array(dated, np.int64),
        np.array(quotes, np.float64), np.zeros((n, 32), np.float32), np.ones(n, bool),
    )  # fmt: skip


def test_honest_feeds_whose_clocks_are_coarse_or_whose_prints_are_alike_are_not_refused():
    rng = np.random.default_rng(2)
    # Sweeps that print the same price and size within a millisecond: few when it is quiet, many in a burst.
    share = np.where(np.arange(40_000) < 30_000, 0.03, 0.25)
    dated = np.cumsum(np.where(rng.random(40_000) < share, 0, 1 + rng.integers(0, 5, 40_000))) * 1_000_000
    quotes = np.full((40_000, 6), np.nan)
    quotes[:, 4] = 100.0 + dated % 97
    quotes[:, 5] = 1.0
    assert repeats(columns_of(["A"] * 40_000, dated, quotes)).faults == []
    # Whole seconds, two hundred ticks each, of few prices.
    dated = np.repeat(np.arange(500), 200) * 1_000_000_000
    quotes = np.full((100_000, 6), np.nan)
    quotes[:, 4], quotes[:, 5] = 100.0 + rng.integers(0, 3, 100_000), rng.integers(1, 200, 100_000)
    assert repeats(columns_of(["A"] * 100_000, dated, quotes)).faults == []


def test_more_of_the_log_takes_no_quoted_row_away():
    quotes = np.full((1_200, 6), np.nan)
    quotes[:, 4] = 100.0
    quotes[700:, :2] = [99.0, 101.0]
    whole = columns_of(["A"] * 1_200, np.arange(1_200), quotes)
    known = quoted(whole, {0: 5})
    assert known.tolist()[:600] == quoted(whole.taken(np.arange(600)), {0: 5}).tolist()
    quotes[:50, :2], quotes[50:, :2] = np.nan, [99.0, 101.0]
    assert quoted(columns_of(["A"] * 1_200, np.arange(1_200), quotes), {0: 5}).sum() == 1_150


def test_what_was_ripe_stays_as_it_was_when_more_has_come(tmp_path):
    records = planted(some_records(5_000, seed=8))
    stop = archived(tmp_path / "archive", records)
    before, known = {}, 0
    for k, until in enumerate((1_700, 2_700, 3_000, stop)):
        now = labels_by_tick(ripe(tmp_path / "archive", tmp_path / f"rows{k}", until))
        assert set(before) <= set(now)
        assert all(now[key] == label for key, label in before.items())
        assert len(now) > known
        before, known = now, len(now)


def test_no_label_is_ripe_whose_horizon_has_not_passed(tmp_path):
    records = some_records(4_000)
    archived(tmp_path / "archive", records)
    for until in (1_400, 2_300, 3_999):
        data = ripe(tmp_path / "archive", tmp_path / f"rows{until}", until)
        newest = {}
        for record in records[:until]:
            newest[record.tick.symbol] = record.tick.event_time_ns
        valid = data.labels.valid
        for symbol, name in enumerate(data.names):
            mine = valid & (data.symbols == symbol)
            assert mine.any()
            assert int(data.labels.end_ns[mine].max()) < newest[name]


def test_the_same_offsets_give_the_same_rows_however_long_the_archive_has_grown(tmp_path):
    records = some_records(4_000)
    folder = tmp_path / "archive"
    messages = logged([r.tick for r in records])
    write_archive(folder, {0: messages[:3_000]})
    first = ripe(folder, tmp_path / "first", 2_900, start=1_000)
    write_archive(folder, {0: messages})
    again = ripe(folder, tmp_path / "again", 2_900, start=1_000)
    assert first.manifest.dataset_hash == again.manifest.dataset_hash
    assert first.manifest.data_hash == again.manifest.data_hash


def test_features_are_what_the_desk_saw_and_not_what_a_window_would_show(tmp_path):
    records = some_records(4_000)
    folder = tmp_path / "archive"
    archived(folder, records)
    data = ripe(folder, tmp_path / "rows", 3_900, start=2_000)
    lived = read_columns(folder, Between({}, {0: 4_000}))
    seen = {(s, int(t)): k for k, (s, t) in enumerate(zip(lived.symbols, lived.event_time_ns, strict=True))}
    for k in range(0, len(data), 37):
        place = seen[data.names[data.symbols[k]], int(data.time_ns[k])]
        assert data.features[k].tobytes() == lived.features[place].tobytes()
    alone = open_source(f"archive:{folder}?from=0:2000&until=0:3900")
    assert sum(1 for _ in alone.records()) == 1_900
    # Labels are as long as the desk's memory of a symbol says, not as a window's.
    whole = labels_by_tick(ripe(folder, tmp_path / "whole", 3_900))
    part = labels_by_tick(data)
    assert len(part) > 1_000
    assert all(whole[key] == label for key, label in part.items())


def test_a_tick_is_believed_by_what_came_after_it_alone():
    records = planted(some_records(3_000, seed=4))
    symbols = tuple(r.tick.symbol for r in records)
    n = len(records)
    whole = ArchivedColumns(
        symbols, np.zeros(n, np.int64), np.arange(n), np.array([r.tick.event_time_ns for r in records]),
        np.array([r.arrival_ns for r in records]), np.zeros((n, 6)), np.zeros((n, 32), np.float32), np.ones(n, bool),
    )  # fmt: skip
    kept, left = settled(whole, tolerance_ns(HORIZON_NS))
    assert sum(left.values()) + len(kept) == n
    shorter, _ = settled(whole.taken(np.arange(n - 400)), tolerance_ns(HORIZON_NS))
    assert set(shorter.tolist()) <= set(kept.tolist())


def test_a_span_that_the_archive_does_not_reach_is_refused_by_name(tmp_path):
    archived(tmp_path, some_records(500))
    with pytest.raises(SourceError, match="reaches offset 500 of partition 0, and 501 is asked"):
        open_lived(LivedSpan(tmp_path, {}, {0: 501}), HORIZON_NS)
    with pytest.raises(SourceError, match="reaches offset 0 of partition 3"):
        open_lived(LivedSpan(tmp_path, {}, {3: 10}), HORIZON_NS)
    with pytest.raises(SourceError, match="nothing has come after it yet"):
        open_lived(LivedSpan(tmp_path, {}, {0: 20}), HORIZON_NS)
    assert LivedSpan(tmp_path, {0: 3}, {0: 20, 1: 4}).spec == f"archive:{tmp_path}?from=0:3&until=0:20,1:4"

"""Ticks followed, archived, asked as of: what comes out is what a gateway saw, and never anything newer."""

from __future__ import annotations

import shutil

import msgspec
import numpy as np
import pytest

from services.data.archive.history import History, Span
from services.data.archive.store import Archive
from services.data.market.following import Follower
from services.data.market.lived import EARLIER, MEMORY, NONE_YET, LivedMarket
from services.data.market.questions import MarketQuestions, Question
from tests.unit.services.data.fakes import BEGIN_NS, DAY_NS, FakeTickLog, messages_of, some_ticks
from trading.errors import ConfigurationError, SourceError
from trading.features.engine import FeatureEngine
from trading.history import open_source
from trading.history.archive import files_of_day, first_offset, read_head, read_partition
from trading.intake import Admission
from trading.market import TickBatch

SECOND = 1_000_000_000


class Desk:
    """A follower on a folder, moved by hand."""

    def __init__(self, folder, log, memory_rows=10**9, now_ns=BEGIN_NS, split_rows=500_000, flush_s=1e9):
        self.folder, self.log, self.now_ns = folder, log, now_ns
        self.market, self.history = LivedMarket(memory_rows), History(folder)

        def open_archive(topic_id):
            return Archive(folder, "market.ticks", topic_id, lambda: self.now_ns, split_rows=split_rows)

        self.follower = Follower(log, self.market, open_archive, Admission(), self.history.show, flush_s)

    def read_all(self):
        self.follower.begin()
        while any(m[-1].offset >= self.log.places[p] for p, m in self.log.partitions.items() if m):
            self.follower.turn()


def truth(ticks):
    """What one engine says to all of them, tick by tick, and the time that each row knows."""
    engine, rows, times, newest = FeatureEngine(), [], [], {}
    for tick in ticks:
        rows.append(engine.update(TickBatch.from_ticks([tick])).values[0].copy())
        newest[tick.symbol] = max(newest.get(tick.symbol, 0), tick.event_time_ns)
        times.append(newest[tick.symbol])
    return rows, times


def ask(desk, symbol, *, offset=None, time_ns=None, partition=0):
    """From memory, else from the archive; None for no row."""
    found = desk.market.as_of(symbol, partition, offset=offset, time_ns=time_ns)
    if found.place == EARLIER:
        span = Span(partition, symbol, last_offset=2**62 if offset is None else offset)
        span = span if time_ns is None else msgspec.structs.replace(span, last_ns=time_ns)
        rows = desk.history.last(span)
        return rows if len(rows) else None
    return found.rows


@pytest.mark.parametrize("memory_rows", [10**9, 48])
def test_as_of_is_byte_for_byte_what_one_engine_saw_and_never_newer(tmp_path, memory_rows):
    ticks = some_ticks(3000)
    desk = Desk(tmp_path, FakeTickLog({0: messages_of(ticks)}), memory_rows, split_rows=700)
    desk.follower.begin()
    for k in range(30):
        desk.follower.turn()
        if k % 7 == 6:
            desk.follower.flush()
    rows, times = truth(ticks)
    rng = np.random.default_rng(5)
    places = set()
    for _ in range(400):
        symbol = ("A", "B/C", "..")[int(rng.integers(3))]
        mine = [k for k, tick in enumerate(ticks) if tick.symbol == symbol]
        if rng.random() < 0.5:
            offset = int(rng.integers(-1, 3100))
            known = [k for k in mine if k <= offset]
            found = ask(desk, symbol, offset=offset)
        else:
            time_ns = BEGIN_NS + int(rng.integers(-300, 3100)) * SECOND
            known = [k for k in mine if times[k] <= time_ns]
            found = ask(desk, symbol, time_ns=time_ns)
            places.add(desk.market.as_of(symbol, 0, time_ns=time_ns).place)
        if not known:
            assert found is None
            continue
        assert int(found.offsets[0]) == known[-1]
        assert found.features[0].tobytes() == rows[known[-1]].tobytes()
        assert int(found.state_time_ns[0]) == times[known[-1]]
    assert places == {MEMORY, EARLIER if memory_rows == 48 else NONE_YET}


def test_a_restart_goes_on_with_the_same_features_and_repeats_nothing(tmp_path):
    ticks = some_ticks(1000)
    messages = messages_of(ticks)
    first = Desk(tmp_path, FakeTickLog({0: messages[:500]}))
    first.read_all()
    first.follower.end()
    # What a killed one had in memory is read again.
    second = Desk(tmp_path, FakeTickLog({0: messages[:800]}))
    second.read_all()
    second.follower._archive.close()
    third = Desk(tmp_path, FakeTickLog({0: messages}))
    third.read_all()
    third.follower.end()
    lived = [record.tick for record in open_source(f"archive:{tmp_path}").records()]
    assert lived == ticks
    rows, _ = truth(ticks)
    for k in (0, 400, 499, 500, 799, 800, 999):
        assert ask(third, ticks[k].symbol, offset=k).features[0].tobytes() == rows[k].tobytes()
    assert third.market.as_of(ticks[3].symbol, 0, offset=3).settled
    assert not third.market.as_of(ticks[3].symbol, 0, offset=1000).settled


def test_an_archive_gives_training_what_was_lived_in_the_order_of_arrival(tmp_path):
    ticks = some_ticks(900)
    parts = {
        0: messages_of(ticks[0::2], step_ns=2 * SECOND),
        1: messages_of(ticks[1::2], begin_ns=BEGIN_NS + SECOND, step_ns=2 * SECOND),
    }
    desk = Desk(tmp_path, FakeTickLog(parts, chunk=37), split_rows=200)
    desk.follower.begin()
    for k in range(40):
        desk.follower.turn()
        if k % 5 == 0:
            desk.follower.flush()
    desk.follower.end()
    assert [record.tick for record in open_source(f"archive:{tmp_path}").records()] == ticks
    only = [t for t in ticks if t.symbol == "B/C"]
    assert [record.tick for record in open_source(f"archive:{tmp_path}?symbol=B/C").records()] == only
    assert sum(len(batch) for batch in open_source(f"archive:{tmp_path}").batches(64)) == 900
    # From one offset to before another: the same ticks, however long it has grown.
    offsets = {p: list(read_partition(tmp_path, p, 0, 2**62)) for p in read_head(tmp_path).partitions}
    (first, some), *others = offsets.items()
    cut = some[len(some) // 3].offset, some[2 * len(some) // 3].offset
    there = f"archive:{tmp_path}?from={first}:{cut[0]}&until={first}:{cut[1]}"
    found = [record.tick for record in open_source(there).records()]
    assert sorted(map(str, found)) == sorted(
        str(one.tick) for p, all_of_it in offsets.items() for one in all_of_it
        if p != first or cut[0] <= one.offset < cut[1]
    )  # fmt: skip
    assert len(others) == 0 or len(found) > cut[1] - cut[0]
    for wrong in ("until=0", "until=a:1", "from=0:-1", "until=0:1,", "from=²:1"):
        with pytest.raises(SourceError, match="expected PARTITION:OFFSET"):
            open_source(f"archive:{tmp_path}?{wrong}")
    # A partition alone, for a replay: where each lay, and when it was sent.
    found = list(read_partition(tmp_path, 1, 100, 300))
    assert [(one.offset, one.tick) for one in found] == [(k, ticks[1::2][k]) for k in range(100, 300)]
    assert [one.sent_ns for one in found] == [m.sent_ns for m in parts[1][100:300]]
    assert (first_offset(tmp_path, 1), first_offset(tmp_path, 7)) == (0, None)


def test_a_day_that_is_over_has_one_file_a_symbol_and_partition(tmp_path):
    step = DAY_NS // 300
    ticks = some_ticks(900, step_ns=step)
    desk = Desk(tmp_path, FakeTickLog({0: messages_of(ticks, step_ns=step)}), split_rows=50)
    desk.follower.begin()
    for _ in range(12):
        desk.follower.turn()
        desk.follower.flush()
    desk.now_ns = BEGIN_NS + 10 * DAY_NS
    desk.follower.flush()
    head = read_head(tmp_path)
    assert head.chunks == []
    assert len(head.days) == 4
    for day in head.days:
        files = files_of_day(tmp_path, day)
        assert len(files) == len({one.symbol for one in files}) == 3
    assert sum(day.rows for day in head.days) == 900
    assert [record.tick for record in open_source(f"archive:{tmp_path}").records()] == ticks
    # The name of a symbol leads nowhere.
    assert {p.resolve().is_relative_to(tmp_path.resolve()) for p in tmp_path.rglob("*")} == {True}
    rows, _ = truth(ticks)
    fresh = Desk(tmp_path, FakeTickLog({0: messages_of(ticks, step_ns=step)}), now_ns=desk.now_ns)
    desk.follower.end()
    fresh.read_all()
    for k in (0, 100, 450, 899):
        assert ask(fresh, ticks[k].symbol, offset=k).features[0].tobytes() == rows[k].tobytes()


def test_what_cannot_be_written_stays_and_is_written_once(tmp_path):
    ticks = some_ticks(300)
    desk = Desk(tmp_path, FakeTickLog({0: messages_of(ticks)}))
    desk.read_all()
    (tmp_path / "chunks").write_text("in the way")
    with pytest.raises(OSError, match="chunks"):
        desk.follower.flush()
    desk.follower._archive_due()
    assert "not archived" in desk.follower.problem
    assert read_head(tmp_path) is None
    (tmp_path / "chunks").unlink()
    desk.follower._archive_due()
    assert desk.follower.problem == ""
    assert [record.tick for record in open_source(f"archive:{tmp_path}").records()] == ticks


def test_a_disk_that_is_full_ends_reading_before_memory_does(tmp_path, monkeypatch):
    monkeypatch.setattr("services.data.market.following.MOST_ROWS", 300)
    monkeypatch.setattr("services.data.market.following.RETRY_S", 0.0)
    desk = Desk(tmp_path, FakeTickLog({0: messages_of(some_ticks(2000))}))
    desk.follower.begin()
    (tmp_path / "chunks").write_text("in the way")
    for _ in range(30):
        desk.follower.turn()
    assert desk.follower._count == 300
    assert "not archived" in desk.follower.problem
    (tmp_path / "chunks").unlink()
    for _ in range(30):
        desk.follower.turn()
    assert desk.follower.problem == ""
    desk.follower.end()
    assert sum(1 for _ in open_source(f"archive:{tmp_path}").records()) == 2000


def test_what_is_shown_late_is_not_archived_twice(tmp_path):
    desk = Desk(tmp_path, FakeTickLog({0: messages_of(some_ticks(500))}))
    desk.read_all()
    show = desk.history.show

    def failing(head):
        raise SourceError("a manifest cannot be read")

    desk.follower._shown = failing
    for _ in range(3):
        desk.follower._archive_due()
    assert "manifest" in desk.follower.problem
    desk.follower._shown = show
    desk.follower._archive_due()
    assert sum(1 for _ in open_source(f"archive:{tmp_path}").records()) == 500
    desk.follower.end()
    # At a start nothing is answered of an archive that cannot be read.
    again = Desk(tmp_path, FakeTickLog({0: messages_of(some_ticks(500))}))
    again.follower._shown = failing
    for _ in range(2):
        with pytest.raises(SourceError):
            again.follower.begin()
    assert again.market.symbols() == []


def test_a_fault_that_nobody_knows_ends_no_thread(tmp_path, monkeypatch):
    monkeypatch.setattr("services.data.market.following.RETRY_S", 0.0)
    log = FakeTickLog({0: messages_of(some_ticks(100))})
    desk = Desk(tmp_path, log)
    faults = [AttributeError("str"), MemoryError(), KeyError("x")]
    read = log.read

    def reading(timeout_s):
        if faults:
            raise faults.pop()
        if log.places[0] == 100:
            desk.follower.stop()
        return read(timeout_s)

    log.read = reading
    desk.follower.run()
    assert faults == []
    assert read_head(tmp_path).partitions[0].next_offset == 100
    # What has ended says so.
    assert "has ended" in desk.follower.problem


def test_a_topic_made_anew_is_neither_archived_nor_answered(tmp_path):
    desk = Desk(tmp_path, FakeTickLog({0: messages_of(some_ticks(100))}))
    desk.read_all()
    desk.log.id = "id-2"
    with pytest.raises(ConfigurationError, match="made anew"):
        desk.follower.begin()
    assert desk.market.symbols() == []
    desk.follower.end()
    assert read_head(tmp_path) is None or read_head(tmp_path).partitions == {}


def test_a_partition_that_is_added_is_read(tmp_path):
    log = FakeTickLog({0: messages_of(some_ticks(100))})
    desk = Desk(tmp_path, log)
    desk.read_all()
    log.partitions[1] = messages_of(some_ticks(60, symbols=("NEW",), seed=9))
    desk.read_all()
    assert desk.market.positions() == {0: 100, 1: 60}
    assert ask(desk, "NEW", offset=59, partition=1) is not None
    # What was in memory is still there.
    assert desk.market.as_of("A", 0, offset=99).place == MEMORY


def test_numbers_of_what_failed_are_not_used_again(tmp_path, monkeypatch):
    ticks = some_ticks(400)
    desk = Desk(tmp_path, FakeTickLog({0: messages_of(ticks[:200])}))
    desk.read_all()
    import services.data.archive.store as store

    sync = store.sync

    def failing(path):
        if path == tmp_path:
            raise OSError(5, "Input/output error")
        sync(path)

    monkeypatch.setattr(store, "sync", failing)
    desk.follower._archive_due()
    named = {one.path: one.sha256 for one in read_head(tmp_path).chunks}
    assert named
    # The head is on disk, and nobody was told: what is written next leaves its files alone.
    monkeypatch.setattr(store, "sync", sync)
    desk.log.partitions[0] = messages_of(ticks)
    replace = store.replace_file
    monkeypatch.setattr(
        store, "replace_file", lambda path, *a, **k: None if path.name == "head.json" else replace(path, *a, **k)
    )
    desk.follower.turn()
    desk.follower._archive_due()
    for path, sha256 in named.items():
        assert store.digest(tmp_path / path) == sha256


def test_a_backlog_of_a_day_that_is_over_is_joined_once(tmp_path):
    desk = Desk(
        tmp_path, FakeTickLog({0: messages_of(some_ticks(3000))}), now_ns=BEGIN_NS + 5 * DAY_NS, split_rows=500
    )
    desk.follower.begin()
    written = 0
    for _ in range(31):
        desk.follower.turn()
        desk.follower.flush()
    for path in (tmp_path / "days").rglob("*.parquet"):
        import pyarrow.parquet as pq

        written += pq.read_metadata(path).num_rows
    assert written <= 3 * 3000
    desk.follower.flush()
    assert {day.whole for day in read_head(tmp_path).days} == {True}
    assert sum(1 for _ in open_source(f"archive:{tmp_path}").records()) == 3000


def test_answers_say_where_ticks_were_gone(tmp_path):
    log = FakeTickLog({0: messages_of(some_ticks(300))[100:]})
    log.first = {0: 100}
    desk = Desk(tmp_path, log)
    desk.read_all()
    questions = MarketQuestions(desk.market, desk.history, lambda: "")
    assert not questions.answer(Question("A", offset=250)).complete
    assert desk.follower.lost == 100


def test_a_log_that_is_another_is_refused(tmp_path):
    messages = messages_of(some_ticks(100))
    desk = Desk(tmp_path, FakeTickLog({0: messages}))
    desk.read_all()
    with pytest.raises(ConfigurationError, match="another data service"):
        Archive(tmp_path, "market.ticks", "id-1")
    desk.follower.end()
    with pytest.raises(ConfigurationError, match="archive of market.ticks"):
        Desk(tmp_path, FakeTickLog({0: messages}, "id-2")).follower.begin()
    with pytest.raises(ConfigurationError, match="cut short"):
        Desk(tmp_path, FakeTickLog({0: messages[:50]})).follower.begin()


def test_ticks_that_were_deleted_before_are_counted(tmp_path):
    messages = messages_of(some_ticks(100))
    log = FakeTickLog({0: messages[40:]})
    log.first = {0: 40}
    desk = Desk(tmp_path, log)
    desk.read_all()
    desk.follower.end()
    assert read_head(tmp_path).partitions[0].lost == 40


def test_what_is_no_tick_is_left_out_as_a_gateway_does(tmp_path):
    messages = messages_of(some_ticks(10))
    bad = msgspec.structs.replace(messages[4], payload=b"{}")
    ahead = msgspec.structs.replace(messages[5], appended_ns=BEGIN_NS - 3600 * SECOND)
    desk = Desk(tmp_path, FakeTickLog({0: [*messages[:4], bad, ahead, *messages[6:]]}))
    desk.read_all()
    desk.follower.end()
    assert read_head(tmp_path).partitions[0].dropped == 2


def test_a_server_that_does_not_answer_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("services.data.market.following.RETRY_S", 0.0)
    log = FakeTickLog({0: messages_of(some_ticks(250))})
    log.down = 3
    desk = Desk(tmp_path, log)
    read = log.read

    def reading(timeout_s):
        if log.places[0] == 250:
            desk.follower.stop()
        return read(timeout_s)

    log.read = reading
    desk.follower.run()
    assert log.closed
    assert read_head(tmp_path).partitions[0].next_offset == 250


def test_a_changed_file_is_told(tmp_path):
    desk = Desk(tmp_path, FakeTickLog({0: messages_of(some_ticks(300))}))
    desk.read_all()
    desk.follower.end()
    chunk = next((tmp_path / "chunks").glob("*.parquet"))
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(SourceError, match="not what was written"):
        list(open_source(f"archive:{tmp_path}").records())
    shutil.rmtree(tmp_path / "chunks")
    with pytest.raises(SourceError, match="cannot be read"):
        list(open_source(f"archive:{tmp_path}").records())
    with pytest.raises(SourceError, match="no archive"):
        open_source(f"archive:{tmp_path / 'elsewhere'}")
    (tmp_path / "head.json").write_text('{"form":"ultrathink-archive/1","chunks":[{"path":"../../etc/passwd"}]}')
    with pytest.raises(SourceError, match="no head"):
        open_source(f"archive:{tmp_path}")

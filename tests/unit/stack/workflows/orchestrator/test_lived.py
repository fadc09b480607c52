"""Which part of the log a run looks at: a function of the log, of what decides since when, and of what was learned."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from stack.workflows.orchestrator.asked_lived import CheckSpec
from stack.workflows.orchestrator.lived import forget, last_ticks, looked_at, span_of
from tests.archives import logged, write_archive
from trading.errors import ConfigurationError, SourceError
from trading.history import open_source
from trading.history.archive import Between, read_head
from trainers.data.archived_columns import first_times, offsets_since, read_columns


@pytest.fixture(scope="module")
def two_partitions(tmp_path_factory):
    """12,000 ticks of four symbols; the first of three of them lie in partition 0, the fourth in partition 1."""
    folder = tmp_path_factory.mktemp("lived") / "archive"
    records = list(open_source("simulate:signal?seed=5&ticks=12000&symbols=4").records())
    parts = {0: [r for r in records if r.tick.symbol != "SIM3"], 1: [r for r in records if r.tick.symbol == "SIM3"]}
    write_archive(
        folder, {p: logged([r.tick for r in mine], [r.arrival_ns for r in mine]) for p, mine in parts.items()}
    )
    return folder, records, parts


def test_the_newest_ticks_begin_at_one_time_in_all_partitions(two_partitions):
    folder, records, parts = two_partitions
    stop = {p: len(mine) for p, mine in parts.items()}
    start = last_ticks(folder, stop, 3_000)
    assert sum(stop.values()) - sum(start.values()) == 3_000
    first_ns = records[-3_000].arrival_ns
    assert start == {p: sum(r.arrival_ns < first_ns for r in mine) for p, mine in parts.items()}
    assert last_ticks(folder, stop, 12_000) == {}
    # Of a partition that has been idle for long little is new.
    assert last_ticks(folder, {0: stop[0], 1: 10}, 3_000)[1] == 10


def test_offsets_are_found_by_the_brokers_time(two_partitions):
    folder, records, parts = two_partitions
    at_ns = records[7_000].arrival_ns
    found = offsets_since(folder, at_ns)
    for partition, mine in parts.items():
        assert found[partition] == sum(r.arrival_ns < at_ns for r in mine)
    assert offsets_since(folder, 0) == {0: 0, 1: 0}
    assert offsets_since(folder, records[-1].arrival_ns + 1) == {p: len(mine) for p, mine in parts.items()}
    with pytest.raises(SourceError, match="holds no archive"):
        offsets_since(folder.parent / "nothing", 0)


def test_columns_are_the_log_in_the_order_of_the_broker_over_partitions(two_partitions):
    folder, records, parts = two_partitions
    stop = {p: len(mine) for p, mine in parts.items()}
    found = read_columns(folder, Between({}, stop))
    assert found.event_time_ns.tolist() == [r.tick.event_time_ns for r in records]
    assert list(found.symbols) == [r.tick.symbol for r in records]
    part = read_columns(folder, Between({0: 100}, {0: 250}))
    assert part.offset.tolist() == list(range(100, 250))
    first = first_times(folder, {0, 1})
    for symbol in sorted({r.tick.symbol for r in records}):
        assert first[symbol] == next(r.tick.event_time_ns for r in records if r.tick.symbol == symbol)


def test_a_check_looks_at_what_came_after_its_reference(two_partitions):
    folder, records, parts = two_partitions
    stop = {p: len(mine) for p, mine in parts.items()}
    told = looked_at(
        folder, CheckSpec(archive=str(folder), reference=5_000, ticks=5_000), records[1_000].arrival_ns, stop
    )

    def offsets(text):
        return {int(p): int(o) for p, o in (pair.split(":") for pair in text.split(","))}

    born, known = (offsets(text) for text in told["reference"])
    start = offsets(told["start"])
    assert sum(known.values()) - sum(born.values()) == pytest.approx(5_000, abs=2)
    assert all(born[p] <= known[p] <= start[p] <= stop[p] for p in stop)
    assert sum(stop.values()) - sum(start.values()) == pytest.approx(5_000, abs=2)
    # Too little was decided: nothing is said, and nothing fails.
    early = looked_at(folder, CheckSpec(archive=str(folder), reference=11_500), records[1_000].arrival_ns, stop)
    assert set(early) == {"summary"}
    assert "11,500 are to show what is usual" in early["summary"]


def test_an_archive_of_another_log_is_refused(two_partitions):
    folder = two_partitions[0]
    told = {"archive": str(folder), "topic_id": read_head(folder).topic_id}
    span = span_of(told, "0:5", "0:900,1:100")
    assert (span.start, span.stop) == ({0: 5}, {0: 900, 1: 100})
    with pytest.raises(ConfigurationError, match="another log than it was"):
        span_of({**told, "topic_id": "other"}, "", "0:900")


def test_an_archive_that_does_not_begin_with_its_log_has_no_ticks_before(tmp_path):
    records = list(open_source("simulate:signal?seed=5&ticks=3000&symbols=2").records())
    write_archive(tmp_path, {0: logged([r.tick for r in records], first=5_000_000)})
    assert last_ticks(tmp_path, {0: 5_003_000}, 200_000) == {0: 5_000_000}


def test_what_a_killed_run_left_being_built_goes_when_it_is_old_and_nothing_else_does(tmp_path, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path))
    run, other = "0123456789ab", "ba9876543210"
    names = (f"{run}-{other}", f"{other}-{run}", f".{other}-{run}.0a1b2c3d.building", "november")
    for name in names:
        (tmp_path / "lived" / name).mkdir(parents=True)
        os.utime(tmp_path / "lived" / name, (0, 0) if name != names[1] else None)
    forget(SimpleNamespace(run=SimpleNamespace(id=run)))
    assert {path.name for path in (tmp_path / "lived").iterdir()} == {names[1], "november"}

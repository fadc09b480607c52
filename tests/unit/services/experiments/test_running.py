"""A shadow as it goes: blocks count once they have ended everywhere, and it says why it ends."""

from __future__ import annotations

import pytest
from msgspec import structs

from services.experiments.asking import ArmModel, PatientModel
from services.experiments.block_run import CheckpointRefused
from services.experiments.block_series import BlockSeries
from services.experiments.call_budget import CallBudget, CallLimits
from services.experiments.checkpoints import SHADOW, CheckpointStore, read_newest
from services.experiments.partition_shadow import PartitionShadow
from services.experiments.running import ShadowParts, ShadowRun
from tests.recorded_desk import BAND, limits, recorded
from tests.unit.services.experiments.fakes import FakeClock, FakeDeskLog, FakeModel
from tests.unit.services.experiments.test_partition_shadow import EXPERIMENT, SMALL, rows_of
from trading.errors import InvalidPrediction, ServiceUnavailable
from trading.replay.published import Published


@pytest.fixture(scope="module")
def logs():
    return recorded(SMALL, 4000, assumed=True)


class Broken(FakeModel):
    """Answers what cannot be used."""

    def predict(self, features, timeout_s):
        raise InvalidPrediction("signals are no numbers")


def running(logs, polls, target=0.5, experiment=EXPERIMENT, model=None):
    clock = FakeClock()
    budget = CallBudget(CallLimits(1.0), clock)
    shadows = {p: PartitionShadow(p, experiment, limits(), log, BAND, 0) for p, log in logs.items()}
    made = Broken if model == "broken" else FakeModel
    models = {
        arm: ArmModel(arm, served, PatientModel(arm, made(clock, target), budget, clock))
        for arm, served in experiment.models.items()
    }
    log = FakeDeskLog(polls, list(logs))
    series = BlockSeries(experiment.arms, len(logs))
    return ShadowRun(experiment, ShadowParts(log, models, shadows, series, budget))


def in_turns(logs, size=200):
    """What comes of all partitions side by side."""
    rows = {p: rows_of(log) for p, log in logs.items()}
    longest = max(map(len, rows.values()))
    return [
        {p: mine[k : k + size] for p, mine in rows.items() if mine[k : k + size]} for k in range(0, longest, size)
    ]


def finish(run):
    while run._parts.log.polls and not run.ended:
        run.turn(0.0)
    run.turn(0.0)
    return run.evaluation()


def test_all_that_was_decided_is_counted_by_block(logs):
    run = running(logs, in_turns(logs))
    found = finish(run)
    assert run.rows == sum(len(log.published) for log in logs.values())
    assert run.ended == ""
    assert found.blocks > 20
    assert [one.arm for one in found.challengers] == ["other"]
    # Another one that wants what it wants at another pace finds the same.
    assert finish(running(logs, in_turns(logs, 37))) == found
    assert finish(running(logs, in_turns(logs), target=-0.5)) != found


def test_a_partition_that_is_behind_is_waited_for(logs):
    rows = {p: rows_of(log) for p, log in logs.items()}
    first, *others = sorted(rows)
    # One is read whole before the others begin.
    polls = [{first: rows[first]}, *({p: rows[p]} for p in others)]
    run = running(logs, polls)
    run._parts.log.at_end = lambda partition: False
    run.turn(0.0)
    assert run.evaluation().blocks == 0
    del run._parts.log.at_end
    assert finish(run).blocks == finish(running(logs, in_turns(logs))).blocks


def test_a_partition_without_ticks_holds_nobody_up(logs):
    rows = {p: rows_of(log) for p, log in logs.items()}
    first, *_ = sorted(rows)
    quiet = finish(running(logs, [{first: rows[first]}]))
    assert quiet.blocks > 20


def test_a_partition_that_falls_quiet_holds_nobody_up(logs):
    rows = {p: rows_of(log) for p, log in logs.items()}
    first, *others = sorted(rows)
    polls = [{p: rows[p][:100] for p in rows}, {first: rows[first][100:]}]
    found = finish(running(logs, polls))
    whole = finish(running(logs, in_turns(logs)))
    assert whole.blocks - 5 <= found.blocks <= whole.blocks + 1
    assert others


def test_a_partition_that_begins_late_counts_no_block_twice(logs):
    rows = {p: rows_of(log) for p, log in logs.items()}
    first, *others = sorted(rows)
    run = running(logs, [{first: rows[first]}, {}, *({p: rows[p]} for p in others)])
    found = finish(run)
    numbers = run.series.blocks.tolist()
    assert numbers == sorted(set(numbers))
    assert found.blocks <= finish(running(logs, in_turns(logs))).blocks + 1


def test_what_keeps_it_from_going_on_ends_it_with_what_is_known(logs):
    polls = in_turns(logs)
    run = running(logs, [*polls[:5], ServiceUnavailable("Kafka is away"), *polls[5:]])
    found = finish(run)
    assert run.ended == "Kafka is away"
    assert found.blocks > 5
    with pytest.raises(ServiceUnavailable):
        running(logs, [ServiceUnavailable("Kafka is away")]).turn(0.0)


def test_it_knows_when_it_has_reached_what_lay_there(logs):
    polls = in_turns(logs)
    run = running(logs, polls)
    ends = {p: sum(len(poll.get(p, ())) for poll in polls[:3]) for p in logs}
    for turn in range(3):
        assert not run.has_reached(ends), turn
        run.turn(0.0)
    # More has come since, and is not waited for.
    assert run.has_reached(ends)
    assert run._parts.log.polls


def test_what_came_before_another_champion_is_read_everywhere(logs):
    """Kafka hands a backlog over partition by partition: the first to show the change must not cost the others theirs."""
    rows = {p: rows_of(log) for p, log in logs.items()}
    for mine in rows.values():
        at = len(mine) // 2
        mine[at:] = [
            row._replace(published=Published(b"", structs.replace(row.published.decision, model_version="9")))
            for row in mine[at:]
        ]
    one_by_one = running(logs, [{p: rows[p]} for p in sorted(rows)])
    one_by_one._parts.log.at_end = lambda partition: not one_by_one._parts.log.polls
    found = finish(one_by_one)
    assert "decided by trading_decision/9" in one_by_one.ended
    side_by_side = [
        {p: mine[k : k + 100] for p, mine in rows.items() if mine[k : k + 100]} for k in range(0, 2000, 100)
    ]
    assert abs(found.blocks - finish(running(logs, side_by_side)).blocks) <= 1
    assert found.blocks > 10


def test_another_champion_ends_it_with_what_there_is(logs):
    polls = in_turns(logs)
    at = len(polls) // 2
    partition, rows = next(iter(polls[at].items()))
    other = structs.replace(rows[-1].published.decision, model_version="9")
    polls[at][partition] = [*rows[:-1], rows[-1]._replace(published=Published(b"", other))]
    run = running(logs, polls)
    found = finish(run)
    assert "decided by trading_decision/9" in run.ended
    whole = finish(running(logs, in_turns(logs)))
    assert 5 < found.blocks < whole.blocks


def store_in(folder, name="log"):
    return CheckpointStore(folder / "experiments", name, SHADOW)


def test_a_run_that_was_killed_goes_on_from_its_checkpoint_as_one_that_was_not(logs, tmp_path):
    polls = in_turns(logs)
    whole = finish(running(logs, polls))
    for at in (1, len(polls) // 3, len(polls) - 1):
        first = running(logs, polls[:at])
        while first._parts.log.polls:
            first.turn(0.0)
        store_in(tmp_path).keep(EXPERIMENT, 5, first.dump())
        dump = store_in(tmp_path).kept(EXPERIMENT, 5)
        assert dump.places.positions == {p: sum(len(poll.get(p, ())) for poll in polls[:at]) for p in logs}
        second = running(logs, polls[at:])
        second.load(dump)
        assert finish(second) == whole
        assert second.rows == sum(len(log.published) for log in logs.values())
        assert second.series.broken == finish_series(logs, polls).broken


def finish_series(logs, polls):
    run = running(logs, polls)
    finish(run)
    return run.series


@pytest.mark.parametrize("what", ["start", "log", "definition", "bytes", "cut", "version"])
def test_a_checkpoint_of_anything_else_is_left_aside(logs, tmp_path, what, monkeypatch):
    run = running(logs, in_turns(logs))
    run.turn(0.0)
    store = store_in(tmp_path)
    store.keep(EXPERIMENT, 5, run.dump())
    assert store.kept(EXPERIMENT, 5) is not None
    (file,) = (tmp_path / "experiments").glob("*.checkpoint")
    definition, started = EXPERIMENT, 5
    if what == "start":
        started = 6
    elif what == "log":
        store = store_in(tmp_path, "another")
    elif what == "definition":
        definition = structs.replace(EXPERIMENT, alpha=0.01)
    elif what == "bytes":
        content = file.read_bytes()
        file.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    elif what == "cut":
        file.write_bytes(file.read_bytes()[:-7])
    else:
        monkeypatch.setattr("services.experiments.checkpoints.FORMAT", 99)
    assert store.kept(definition, started) is None
    # What it had counted is told of all the same, unless it is of another experiment, or cannot be read.
    told = read_newest(tmp_path / "experiments", definition, SHADOW)
    assert (told is not None) == (what in {"start", "log"})


def test_how_far_it_is_behind_is_told_by_the_partition_that_is_furthest(logs, monkeypatch):
    rows = {p: rows_of(log) for p, log in logs.items()}
    first, second, *_ = sorted(rows)
    run = running(logs, [{first: rows[first][:50], second: rows[second][:50]}, {first: rows[first][50:100]}, {}])
    run._parts.log.at_end = lambda partition: not run._parts.log.polls
    late_ns = 90 * 10**9
    now_ns = rows[first][49].decision.decided_at_ns + late_ns
    monkeypatch.setattr("services.experiments.block_run.time.time_ns", lambda: now_ns)
    for row in rows[first][50:100]:
        assert row.decision.decided_at_ns >= rows[second][49].decision.decided_at_ns
    run.turn(0.0)
    run.turn(0.0)
    # The other one has told nothing since: its blocks have not ended.
    oldest_ns = min(rows[first][99].decision.decided_at_ns, rows[second][49].decision.decided_at_ns)
    assert run.behind_s == pytest.approx((now_ns - oldest_ns) / 1e9)
    run.turn(0.0)
    assert run.behind_s == 0.0
    assert run.is_at_end


def test_limits_of_another_version_refuse_a_checkpoint_in_words(logs):
    run = running(logs, in_turns(logs))
    run.turn(0.0)
    dump = run.dump()
    broken = structs.replace(
        dump.partitions[0], arms=[structs.replace(dump.partitions[0].arms[0], limits=b"{}x")] * 2
    )
    with pytest.raises(CheckpointRefused, match="it is begun anew"):
        running(logs, []).load(structs.replace(dump, partitions=[broken, *dump.partitions[1:]]))

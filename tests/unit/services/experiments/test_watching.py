"""What runs is watched, harm puts the champion back, and what breaks off goes on."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager

import pytest
from msgspec import structs

from services.experiments.block_run import CheckpointRefused
from services.experiments.checkpoints import DESK, SHADOW, CheckpointStore, read_newest
from services.experiments.observing import ExperimentMetrics
from services.experiments.service import ExperimentService, Sides
from services.experiments.watching import Side, WatcherParts
from tests.challengers import FakeChallenger
from tests.recorded_desk import recorded
from tests.unit.services.experiments.test_canary import EXPERIMENT as CANARY
from tests.unit.services.experiments.test_canary import counting, desk_log, polls_of
from tests.unit.services.experiments.test_partition_shadow import EXPERIMENT, SMALL
from tests.unit.services.experiments.test_running import in_turns, running
from tests.waiting import eventually
from trading.encoding import encode
from trading.errors import ConfigurationError, PredictorTimeout, ServiceUnavailable
from trading.experiments.definition import GuardedMetric
from trading.experiments.register import ExperimentRegister, ExperimentState, ExperimentWord

HARMLESS = structs.replace(EXPERIMENT, guardrails=(GuardedMetric("drawdown", 1e6),))
DIVIDING = structs.replace(HARMLESS, kind="canary", salt="salt-of-one")
GUARDED = structs.replace(EXPERIMENT, guardrails=(GuardedMetric("error_rate", 0.1, 0.5),))


class FakeControl:
    """Implements ExperimentControl over a register."""

    def __init__(self):
        self.register, self.offset, self.stops, self.failures = ExperimentRegister(), 0, [], []

    def say(self, act, name="one", by="me", reason="because", **given):
        self.offset += 1
        text = encode(ExperimentWord(act, name, **given)).decode()
        assert self.register.take(self.offset, text, by, reason, self.offset) == ""

    def follow(self, timeout_s):
        return 0

    def appended_ns(self, offset):
        return offset

    def experiments(self):
        return self.register.experiments

    def stop(self, name, reason):
        if self.failures:
            raise self.failures.pop(0)
        self.stops.append(reason)
        self.say("stop", name, "experiments", reason)


class FakeJournal:
    """Implements ExperimentJournal."""

    def __init__(self):
        self.noted = []

    def note(self, experiment, event, reason):
        self.noted.append((experiment, event, reason))


class Desk:
    """A service over recorded decisions; `opened` are the shadows' runs that were opened, `desks` the desk's."""

    def __init__(
        self,
        folder,
        logs,
        definition=HARMLESS,
        model=None,
        failures=(),
        away_after=None,
        unloadable=False,
        again_away=0,
        divided=None,
        turns_fail=False,
        breaks=None,
        one_away=False,
    ):
        self.control, self.journal, self.metrics = FakeControl(), FakeJournal(), ExperimentMetrics()
        self.store, self.opened, self.failures = CheckpointStore(folder, "log", SHADOW), [], list(failures)
        self.desks, self.divided, self.turns_fail = [], divided, turns_fail
        self.breaks = breaks or ServiceUnavailable("Kafka is away")
        self.folder, self.away_after, self.unloadable = folder, away_after, unloadable
        self.again_away, self.one_away = again_away, one_away
        self.logs, self.model, self.resumed = logs, model, []
        self.control.say("create", definition=definition)
        self.control.say("start")
        parts = WatcherParts(self.control, self.journal, self.metrics, 0.0)
        desk = Side("desk", self.open_desk, CheckpointStore(folder, "log", DESK))
        sides = Sides(Side("shadow", self.open, self.store), desk)
        self.service, self.stopping = ExperimentService(sides, parts), threading.Event()
        self.thread = threading.Thread(target=self.service.run, args=(self.stopping,), daemon=True)

    @contextmanager
    def open(self, opening):
        if self.failures:
            raise self.failures.pop(0)
        polls = in_turns(self.logs)
        if opening.resumed is not None:
            done = opening.resumed.places.positions
            polls = polls[max(done.values()) // 200 :]
            if self.again_away:
                self.again_away -= 1
                raise ServiceUnavailable("Triton is away")
            if self.unloadable:
                raise CheckpointRefused("it is of other partitions")
        elif self.away_after is not None and not self.opened:
            polls = [*polls[: self.away_after], self.breaks, *polls[self.away_after :]]
        if self.turns_fail:
            polls = [ServiceUnavailable("the challenger gives no answer for 30 s")] * 3
        if self.one_away:
            polls = [{0: polls[0][0]}, ServiceUnavailable("partition 1 is away")]
        run = running(self.logs, polls, experiment=opening.experiment.definition, model=self.model)
        if self.one_away:
            run._parts.log.at_end = lambda partition: False
        elif opening.resumed is not None:
            run.load(opening.resumed)
        self.resumed.append(opening.resumed is not None)
        self.opened.append(run)
        yield run

    @contextmanager
    def open_desk(self, opening):
        logs, arms = self.divided or (self.logs, self.control.experiments()["one"].arms)
        self.desks.append(counting(logs, polls_of(logs), arms, opening.experiment.definition))
        yield self.desks[-1]

    def begin(self):
        self.thread.start()
        return self

    def end(self):
        self.stopping.set()
        self.thread.join(30.0)
        assert not self.thread.is_alive()

    def value(self, name, where="shadow", **labels):
        labels |= {} if name in {"experiments_stops_total", "experiments_share"} else {"where": where}
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture(scope="module")
def logs():
    return recorded(SMALL, 4000, assumed=True)


def whole_of(logs):
    return sum(len(log.published) for log in logs.values())


@pytest.fixture
def desk(tmp_path, logs):
    made = []

    def make(**given):
        made.append(Desk(tmp_path / "kept", logs, **given))
        return made[-1].begin()

    yield make
    for one in made:
        one.end()


def test_a_running_experiment_is_watched_until_it_is_stopped(desk):
    one = desk()
    eventually(lambda: (one.value("experiments_blocks", experiment="one") or 0) > 20)
    assert one.value("experiments_watched", experiment="one") == 1.0
    eventually(lambda: one.journal.noted or one.opened[0].rows == whole_of(one.logs))
    assert one.control.stops == []
    one.control.say("stop")
    eventually(lambda: one.service.problems() == {})
    assert one.value("experiments_watched", experiment="one") is None
    # What it has come to is there to be read.
    assert read_newest(one.folder, HARMLESS, SHADOW).run.places.rows > 0


def test_harm_puts_the_champion_back_and_is_on_record(desk):
    one = desk(definition=GUARDED, model="broken")
    one.control.failures = [ServiceUnavailable("Kafka is away")] * 3
    eventually(lambda: one.control.stops)
    (reason,) = one.control.stops
    assert re.match(r"other does harm: in block 1 its error_rate was 0\.8\d+ above the champion's", reason)
    assert one.control.experiments()["one"].state is ExperimentState.STOPPED
    assert one.control.experiments()["one"].said[-1].by == "experiments"
    assert one.value("experiments_stops_total", experiment="one", why="harm") == 1.0
    # From 0 on, or nobody would see it grow.
    assert one.value("experiments_stops_total", experiment="one", why="unwatched") == 0.0
    eventually(lambda: ("one", "stopped", reason) in one.journal.noted)
    eventually(lambda: one.service.problems() == {})
    # A human starts it again, and it is counted anew.
    one.control.say("start")
    eventually(lambda: len(one.opened) == 2)
    assert one.resumed == [False, False]


def test_what_cannot_be_opened_is_told_and_tried_again(desk, monkeypatch):
    monkeypatch.setattr("services.experiments.watching.AGAIN_S", 0.3)
    one = desk(failures=[ServiceUnavailable("Triton is away"), RuntimeError("a fault of ours")])
    eventually(lambda: one.value("experiments_watched", experiment="one") == 0.0)
    problems = set()

    def watched():
        problems.add(one.service.problems()["one", "shadow"])
        return one.value("experiments_watched", experiment="one") == 1.0

    eventually(watched)
    assert {"Triton is away", "RuntimeError: a fault of ours"} <= problems
    assert one.service.problems()["one", "shadow"] == ""


def test_one_that_cannot_be_watched_any_more_is_stopped(desk):
    one = desk()
    eventually(lambda: one.opened)
    one.opened[0].ended = "the desk is decided by another champion"
    eventually(lambda: one.control.stops)
    assert one.control.stops == ["nobody can watch it any more: the desk is decided by another champion"]


def test_a_server_that_comes_back_is_gone_on_with_from_the_last_whole_turn(desk, monkeypatch):
    monkeypatch.setattr("services.experiments.watching.AGAIN_S", 0.1)
    one = desk(away_after=8)
    whole = whole_of(one.logs)
    # Nothing was left out, and nothing taken twice.
    eventually(lambda: len(one.opened) >= 2 and one.opened[-1].rows == whole)
    assert one.resumed[:2] == [False, True]
    assert one.control.stops == []


def test_a_server_that_is_away_when_it_is_begun_takes_nothing_of_what_was_counted(desk, monkeypatch):
    monkeypatch.setattr("services.experiments.watching.AGAIN_S", 0.1)
    one = desk(away_after=8, again_away=3)
    whole = whole_of(one.logs)
    eventually(lambda: len(one.opened) >= 2 and one.opened[-1].rows == whole)
    assert one.resumed == [False, True]


@pytest.mark.parametrize(("share", "stops"), [(0.5, 1), (0.0, 0)])
def test_challengers_that_have_a_share_and_are_watched_by_nobody_lose_it(desk, monkeypatch, share, stops):
    monkeypatch.setattr("services.experiments.watching.AGAIN_S", 0.05)
    monkeypatch.setattr("services.experiments.watching.UNWATCHED_S", 0.5)
    one = desk(definition=DIVIDING, failures=[ServiceUnavailable("the challenger gives no answer")] * 60)
    if share:
        one.control.say("ramp", share=share, from_block=1)
    eventually(lambda: one.control.stops or len(one.failures) < 30)
    assert len(one.control.stops) == stops
    if stops:
        assert "nobody could watch it for" in one.control.stops[0]
        assert "the challenger gives no answer" in one.control.stops[0]
        assert one.value("experiments_stops_total", experiment="one", why="unwatched") == 1.0


@pytest.mark.parametrize("opens", [True, False])
def test_to_be_opened_alone_is_not_to_be_watched(desk, monkeypatch, opens):
    """Triton loads the challenger, and answers no call of it: each try begins well."""
    monkeypatch.setattr("services.experiments.watching.AGAIN_S", 0.05)
    monkeypatch.setattr("services.experiments.watching.UNWATCHED_S", 0.5)
    failures = () if opens else [ServiceUnavailable("gone")] * 1000
    one = desk(definition=DIVIDING, turns_fail=True, failures=failures)
    one.control.say("ramp", share=0.5, from_block=1)
    eventually(lambda: one.control.stops)
    assert "nobody could watch it for" in one.control.stops[0]
    assert not one.value("experiments_watched", experiment="one")


def test_where_a_canary_without_a_share_stands_is_kept_too(desk):
    one = desk(definition=DIVIDING)
    eventually(lambda: read_newest(one.folder, DIVIDING, DESK) is not None)
    eventually(lambda: read_newest(one.folder, DIVIDING, DESK).run.places.rows == whole_of(one.logs))
    assert one.desks[0].block_count == 0


def test_both_sides_that_see_harm_stop_it_once(desk):
    logs, divided = desk_log(FakeChallenger(late=PredictorTimeout("late")), name="one")
    definition = structs.replace(
        CANARY, name="one", salt="salt-of-one", guardrails=(GuardedMetric("error_rate", 0.01, 0.5),)
    )
    one = desk(definition=definition, divided=(logs, divided.arms), model="broken")
    eventually(lambda: one.control.stops)
    eventually(lambda: one.service.problems() == {})
    assert len(one.control.stops) == 1
    assert one.value("experiments_stops_total", experiment="one", why="harm") == 1.0


def test_what_broke_off_in_the_middle_of_a_turn_is_not_kept(desk):
    one = desk(away_after=8, breaks=ConfigurationError("a decision on record is none of this version"))
    eventually(lambda: one.control.stops)
    assert "a decision on record is none of this version" in one.control.stops[0]
    whole_turns = 8 * 200 * len(one.logs)
    assert read_newest(one.folder, HARMLESS, SHADOW).run.places.rows <= whole_turns


def test_a_folder_that_cannot_be_written_is_told_of(desk, tmp_path):
    one = desk()

    def full(*_):
        raise OSError(28, "No space left on device")

    one.store.keep = full
    eventually(lambda: one.value("experiments_checkpoint_failed", experiment="one") == 1.0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="ULTRATHINK_EXPERIMENTS_FOLDER names another"):
        CheckpointStore(tmp_path / "file", "log", SHADOW)


def test_a_disk_that_was_full_is_tried_again_though_nothing_comes_any_more(desk):
    one = desk()
    keep, whole, is_full = one.store.keep, whole_of(one.logs), True

    def maybe_full(*given):
        if is_full:
            raise OSError(28, "No space left on device")
        keep(*given)

    one.store.keep = maybe_full
    eventually(lambda: one.value("experiments_checkpoint_failed", experiment="one") == 1.0)
    eventually(lambda: one.opened[0].rows == whole)
    is_full = False
    eventually(lambda: one.value("experiments_checkpoint_failed", experiment="one") == 0.0)
    assert read_newest(one.folder, HARMLESS, SHADOW).run.places.rows == whole


def test_challengers_of_whose_partitions_one_is_not_heard_of_lose_their_share(desk, monkeypatch):
    """No block ends without it, so no harm is seen, however lively the others are."""
    monkeypatch.setattr("services.experiments.watching.AGAIN_S", 0.05)
    monkeypatch.setattr("services.experiments.watching.UNWATCHED_S", 0.5)
    one = desk(definition=DIVIDING, one_away=True)
    one.control.say("ramp", share=0.5, from_block=1)
    eventually(lambda: one.control.stops)
    assert "nobody could watch it for" in one.control.stops[0]
    assert "partition 1 is away" in one.control.stops[0]
    assert sum(run.rows for run in one.opened) > 0


def test_a_checkpoint_that_cannot_be_gone_on_from_is_begun_anew(desk, monkeypatch):
    monkeypatch.setattr("services.experiments.watching.AGAIN_S", 0.1)
    one = desk(away_after=8, unloadable=True)
    eventually(lambda: len(one.opened) >= 2)
    assert one.resumed[:2] == [False, False]
    assert one.control.stops == []


def test_a_stop_waits_for_nothing_else(desk, monkeypatch):
    one = desk(definition=GUARDED, model="broken")
    noted = one.journal.note
    monkeypatch.setattr("services.experiments.running.evaluate", None)
    one.journal.note = lambda *told: (noted(*told), one.control.stops[0])
    eventually(lambda: one.control.stops)
    assert one.control.experiments()["one"].state is ExperimentState.STOPPED


def test_harm_on_the_desk_is_seen_while_the_shadows_challenger_hangs(desk, monkeypatch):
    logs, divided = desk_log(FakeChallenger(late=PredictorTimeout("late")), name="one")
    hung = threading.Event()

    class Hanging:
        def __init__(self, *_):
            self.asked = None

        def predict(self, features, timeout_s):
            assert hung.wait(30.0)
            raise PredictorTimeout("late")

    monkeypatch.setattr("tests.unit.services.experiments.test_running.FakeModel", Hanging)
    definition = structs.replace(CANARY, name="one", salt="salt-of-one")
    one = desk(definition=definition, divided=(logs, divided.arms))
    try:
        eventually(lambda: one.control.stops)
        assert re.match(
            r"newer does harm on the desk: in block \d+ its error_rate was 1 above", one.control.stops[0]
        )
        assert one.value("experiments_stops_total", experiment="one", why="harm") == 1.0
        # It may have been stopped before that was opened.
        assert [run.rows for run in one.opened] in ([], [0])
    finally:
        hung.set()


def test_a_canary_is_watched_from_both_sides_and_a_shadow_from_one(desk):
    one = desk(definition=DIVIDING)
    eventually(lambda: one.service.problems() == {("one", "desk"): "", ("one", "shadow"): ""})
    assert one.value("experiments_watched", where="desk", experiment="one") == 1.0
    one.control.say("stop")
    eventually(lambda: one.service.problems() == {})
    assert one.value("experiments_watched", where="desk", experiment="one") is None
    other = desk()
    eventually(lambda: other.service.problems() == {("one", "shadow"): ""})


def test_a_process_that_ends_keeps_where_it_stands(desk, logs, tmp_path):
    one = desk()
    eventually(lambda: one.opened and one.opened[0].rows > 600)
    one.end()
    kept = one.store.kept(HARMLESS, 2)
    assert kept.places.rows == one.opened[0].rows
    assert one.control.experiments()["one"].state is ExperimentState.RUNNING

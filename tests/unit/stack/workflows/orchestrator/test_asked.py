"""What a run may be asked to do, and what begins one by itself."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module

import msgspec
import pytest

from stack.workflows.orchestrator.asked import (
    CycleSpec,
    TrialSpec,
    check,
    read,
    read_file,
    train_request,
    with_archive,
)
from stack.workflows.orchestrator.learning import pin
from stack.workflows.orchestrator.sensing import DataArrived, Found, sensors_of
from stack.workflows.orchestrator.stepping import STEPS, work_of
from trading.errors import ConfigurationError, SourceError
from trading.history.archive import HEAD, ArchiveHead, PartitionHead
from trainers.orchestrator.cycle import KINDS, REJECT, RunState, Verdict
from trainers.orchestrator.runs import Run, RunRequest
from trainers.orchestrator.settings import OrchestratorSettings
from trainers.registry.promotion import AGAINST_CHAMPION, gate_names

NOW = datetime(2026, 11, 30, tzinfo=UTC)


def request(kind="cycle", **spec):
    return RunRequest(kind=kind, spec={"data": ["skfolio:sp500"], **spec}, reason="a test", by="tester")


def archive(folder, *ends, topic_id="one"):
    folder.mkdir(exist_ok=True)
    partitions = {k: PartitionHead(end, "states/x.state", "0" * 64) for k, end in enumerate(ends)}
    head = ArchiveHead(1, "market.ticks", topic_id, 1, partitions, [], [])
    (folder / HEAD).write_bytes(msgspec.json.encode(head))
    return folder


@pytest.mark.parametrize("kind", ["cycle", "training"])
def test_what_is_asked_is_checked_whole(kind):
    check(request(kind))
    check(request(kind, training={"horizon": "10s", "epochs": 2}, comparison={"block": "5m", "steps": [0.1, 1]}))


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        ("cycle", {"data": []}, r"length >= 1.*\$.data"),
        ("cycle", {"datum": 1}, "unknown field `datum`"),
        ("cycle", {"training": {"epochs": 0}}, r"\$.training.epochs"),
        ("cycle", {"training": {"teacher": "oracle"}}, "teacher 'oracle'"),
        ("cycle", {"training": {"horizon": "soon"}}, "'soon' is no span of time"),
        ("cycle", {"training": {"bars": "tick:zero"}}, "tick"),
        ("cycle", {"comparison": {"block": "5 minutes"}}, "is no span of time"),
        ("cycle", {"comparison": {"steps": [0.0]}}, r"\$.comparison.steps"),
        ("cycle", {"needs": {"dance": {"memory_mb": 1}}}, "a cycle has no step dance"),
        ("training", {"needs": {"shadow": {"memory_mb": 1}}}, "a training has no step shadow"),
        ("cycle", {"needs": {"train": {"memory_mb": "4000"}}}, r"\$.needs"),
        ("cycle", {"needs": {"train": {"gpu_mb": -1}}}, r"\$.needs"),
        ("cycle", {"training": {"\ud800": 1}}, "is none"),
        ("trial", {}, r"missing required field `study`"),
        ("update", {}, "the spec of an update is none: .*unknown field `data`"),
        ("circle", {}, "is no kind of run"),
        ("cycle", {"data": ["nonsense:xyz"]}, "'nonsense:xyz' is no SOURCE: expected one of skfolio:sp500"),
        ("cycle", {"comparison": {"steps": [1.0, 0.5]}}, "comparison: steps.1: 0.5 is not above the step before it"),
        ("cycle", {"comparison": {"symbols": ["A", "A"]}}, "comparison: symbols.1: A is listed twice"),
        ("cycle", {"comparison": {"block": "1ms"}}, "comparison: block: a block of 1ms: expected one of 100ms to 7d"),
        ("cycle", {"comparison": {"most": "-14d"}}, "comparison: '-14d' is no span of time"),
        ("cycle", {"comparison": {"guardrails": [
            {"metric": "error_rate", "tolerance": 0.2, "at_once": 0.1}]}}, "comparison: guardrails.0.at_once: 0.1"),
        ("cycle", {"overrides": {"anna": ["egde"]}}, "overrides: no gate is called egde: there are feature version"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_where_it_is(kind, spec, words):
    with pytest.raises(ConfigurationError, match=words):
        check(request(kind, **spec))


def test_batches_are_as_many_times_smaller_as_memory_was_short():
    spec = read({"data": ["x"], "training": {"batch_size": 512}}, CycleSpec, "cycle")
    assert [train_request(spec, divisor).batch_size for divisor in (1, 2, 1000)] == [512, 256, 8]
    trial = read({"data": ["x"], "study": "s"}, TrialSpec, "trial")
    assert train_request(trial).batch_size == 1024
    assert train_request(trial).settings().fold.loop.batch_size == 1024


def test_gates_are_answered_for_by_their_names():
    known = gate_names()
    assert {"edge", "feature version", "beats equal weights", "champion"} <= set(known)
    check(request(overrides={"anna": [*known, f"{AGAINST_CHAMPION}3"]}))


def test_an_update_must_be_able_to_begin():
    told = {"archive": "x", "ticks": 50_000, "fresh": 50_001}
    with pytest.raises(ConfigurationError, match="fresh, 50,001, is more than ticks, 50,000"):
        check(RunRequest(kind="update", spec=told, reason="a test", by="tester"))
    check(RunRequest(kind="update", spec={**told, "fresh": 50_000}, reason="a test", by="tester"))
    with pytest.raises(ConfigurationError, match="a run needs a reason"):
        check(RunRequest(kind="update", spec=told, reason=" ", by="tester"))


def test_whoever_checks_what_is_asked_loads_no_library_of_a_training():
    """The orchestrator has memory for itself alone."""
    script = """
import sys
from stack.workflows.orchestrator import running, sensing
from stack.workflows.orchestrator.asked import check
from trainers.orchestrator.runs import RunRequest
data = {"data": ["skfolio:sp500"], "training": {"bars": "tick:5", "horizon": "10s"}}
for kind, spec in {"cycle": data, "training": data, "trial": {**data, "study": "x"}, "check": {"archive": "x"},
                   "update": {"archive": "x"}}.items():
    check(RunRequest(kind=kind, spec=spec, reason="a test", by="tester"))
print(sorted({"torch", "sklearn", "pandas", "mlflow", "river"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_numbers_are_read_as_people_write_them(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("learning: {learning_rate: 5e-4}\n")
    assert read_file(path) == {"learning": {"learning_rate": 5e-4}}


def test_quiet_hours_are_listed_by_commas(monkeypatch):
    monkeypatch.setenv("ULTRATHINK_ORCHESTRATOR_QUIET", "22:00-06:00, 12:00-13:00")
    assert OrchestratorSettings().policy().quiet == ("22:00-06:00", "12:00-13:00")
    # As it had to be told before, and as stacks have kept it.
    monkeypatch.setenv("ULTRATHINK_ORCHESTRATOR_QUIET", '["22:00-06:00"]')
    assert OrchestratorSettings().policy().quiet == ("22:00-06:00",)
    monkeypatch.setenv("ULTRATHINK_ORCHESTRATOR_QUIET", "midnight")
    with pytest.raises(ConfigurationError, match="midnight"):
        OrchestratorSettings().policy()
    with pytest.raises(ConfigurationError, match="cool_down: '-1h' is no span"):
        OrchestratorSettings(quiet=(), cool_down="-1h").policy()


def test_a_file_that_is_no_spec_is_refused(tmp_path):
    for text in ("[1, 2]", "a: [", "just words"):
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        with pytest.raises(ConfigurationError):
            read_file(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_file(tmp_path / "absent.yaml")


def test_an_archive_is_pinned_where_it_ends_now(tmp_path):
    folder = archive(tmp_path / "archive", 120, 7)
    assert pin(f"archive:{folder}") == f"archive:{folder}?until=0:120,1:7"
    assert pin(f"archive:{folder}?symbol=A") == f"archive:{folder}?symbol=A&until=0:120,1:7"
    assert pin(f"archive:{folder}?until=0:5") == f"archive:{folder}?until=0:5"
    assert pin("skfolio:sp500") == "skfolio:sp500"
    with pytest.raises(SourceError, match="holds no archive yet"):
        pin(f"archive:{tmp_path / 'nothing'}")


def test_new_ticks_are_told_of_once_they_are_enough(tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text("data: ['skfolio:sp500']")
    folder = archive(tmp_path / "archive", 400, 500)
    sensor = DataArrived(folder, 1_000, spec)
    assert sensor.look(NOW) == []
    archive(folder, 900, 1_200)
    (one,) = sensor.look(NOW)
    assert (one.kind, one.key, one.detail) == ("data", "one/2000", {"ticks": 2_100})
    assert sensor.look(NOW)[0].key == one.key
    archive(folder, 900, 1_200, topic_id="another")
    assert sensor.look(NOW)[0].key == "another/2000"
    assert DataArrived(tmp_path / "nothing", 1_000, spec).look(NOW) == []


def test_what_is_missing_is_named(tmp_path):
    def told(**given):
        return OrchestratorSettings(token="told", **given)

    assert sensors_of(told(), None) == []
    missing = {
        "ULTRATHINK_ORCHESTRATOR_CYCLE": {"archive": tmp_path, "data_ticks": 5},
        "ULTRATHINK_ORCHESTRATOR_CHECK,": {"archive": tmp_path, "check_ticks": 5},
        "wants ULTRATHINK_ORCHESTRATOR_ARCHIVE": {"data_ticks": 5},
        "ON_DRIFT=update wants ULTRATHINK_ORCHESTRATOR_UPDATE": {"on_drift": "update"},
        "ON_DECAY=cycle wants ULTRATHINK_ORCHESTRATOR_CYCLE": {"on_decay": "cycle"},
    }
    for name, given in missing.items():
        with pytest.raises(ConfigurationError, match=name):
            sensors_of(told(**given), None)


def ended(kind, verdict, age_s=60.0, **assessed):
    request = RunRequest(kind=kind, reason="a test", by="tester")
    return Run(
        id=f"{kind}-{verdict}", request=request, state=RunState.ENDED, step="assess", verdict=Verdict(verdict),
        why="", fence=1, lease_until_s=None, not_before_s=0.0, divisor=1, cancelled="",
        outputs={"assess": assessed} if assessed else {}, progress={}, submitted_s=NOW.timestamp() - age_s - 10.0, ended_s=NOW.timestamp() - age_s,
    )  # fmt: skip


def test_what_the_newest_check_has_found_begins_what_is_wanted(tmp_path):
    runs = []
    update = {"archive": str(tmp_path)}
    sensor = Found({"drift": ("update", update), "decay": ("cycle", {"data": ["skfolio:sp500"]})}, lambda: runs)
    assert sensor.look(NOW) == []
    runs[:] = [ended("cycle", "succeeded", age_s=500.0), ended("check", "failed", kinds=["drift"])]
    assert sensor.look(NOW) == []
    runs.append(
        ended("check", "succeeded", kinds=["drift"], alarms=[{"what": "macd"}], summary="macd lies elsewhere",
              champion="trading_decision/3")
    )  # fmt: skip
    (one,) = sensor.look(NOW)
    assert (one.kind, one.key, one.request.kind) == ("drift", "check-succeeded", "update")
    assert one.request.reason == "macd lies elsewhere"
    assert one.detail == {"check": "check-succeeded", "alarms": [{"what": "macd"}]}
    # Of another champion nothing was found.
    assert one.request.spec == {**update, "champion": "trading_decision/3"}
    # The worse one first; and what the newest check no longer finds begins nothing.
    runs.insert(0, ended("check", "succeeded", kinds=["drift", "decay"], summary="both"))
    assert [h.kind for h in sensor.look(NOW)] == ["decay"]
    # What was found long ago begins nothing now.
    runs.insert(0, ended("check", "succeeded", age_s=7_200.0, kinds=["drift"], summary="old"))
    assert sensor.look(NOW) == []
    runs.insert(0, ended("check", "succeeded", kinds=["drift"], summary="new"))
    assert len(sensor.look(NOW)) == 1
    # It was looked at a champion that decides no more.
    for changed in (ended("update", "succeeded", age_s=5.0), ended("guard", "rejected", age_s=5.0)):
        runs.append(changed)
        assert sensor.look(NOW) == []
        runs.remove(changed)
    for other in (ended("update", "rejected", age_s=5.0), ended("guard", "succeeded", age_s=5.0)):
        runs.append(other)
        assert len(sensor.look(NOW)) == 1
    runs.insert(0, ended("check", "succeeded", kinds=[], summary="nothing"))
    assert sensor.look(NOW) == []
    with pytest.raises(ConfigurationError, match="spec of an update is none"):
        Found({"drift": ("update", {"data": ["x"]})}, lambda: runs)


def lived(kind, **spec):
    return RunRequest(kind=kind, spec={"archive": "there", **spec}, reason="a test", by="tester")


@pytest.mark.parametrize(
    ("kind", "spec", "why"),
    [
        ("check", {"reference": 10}, "reference"),
        ("check", {"drift": {"slack": 0.0}}, "slack"),
        ("check", {"data": ["x"]}, "unknown field `data`"),
        ("check", {"reference": 7_000}, "fewer than 16 blocks of 500"),
        ("check", {"drift": {"block_rows": 1_000_000}}, "fewer than 16 blocks"),
        ("check", {"needs": {"train": {"memory_mb": 5}}}, "a check has no step train"),
        ("check", {"needs": {"assess": {"memory": 5}}}, "unknown field `memory`"),
        ("update", {"learning": {"steps": 10**6}}, "steps 1e\\+06 is none of a small step"),
        ("update", {"learning": {"learning_rate": float("nan")}}, "learning_rate nan"),
        ("update", {"learning": {"costs": {"fee_bps": -1}}}, "fee_bps"),
        ("update", {"learning": {"stepz": 1}}, "unknown field `stepz`"),
        ("check", {"costs": {"fee_bps": float("nan")}}, "fee_bps nan"),
        ("update", {"guard": {"most": "soon"}}, "guard: "),
        ("update", {"guard": {"utility": 1.5}}, "utility"),
        ("update", {"comparison": {"block": "never"}}, "never"),
    ],
)
def test_what_learns_from_what_was_lived_is_checked_whole(kind, spec, why):
    check(lived(kind))
    with pytest.raises(ConfigurationError, match=why):
        check(lived(kind, **spec))


def test_what_looks_at_the_desks_own_archive_need_not_name_it(tmp_path):
    assert with_archive({}, "check", tmp_path) == {"archive": str(tmp_path)}
    assert with_archive({"archive": "other"}, "update", tmp_path) == {"archive": "other"}
    assert with_archive({"data": []}, "cycle", tmp_path) == {"data": []}
    with pytest.raises(
        ConfigurationError, match="update: no archive is named: give ULTRATHINK_ORCHESTRATOR_ARCHIVE"
    ):
        with_archive({}, "update", None)


def test_every_step_of_every_kind_is_done_by_something():
    assert set(STEPS) == {step for steps in KINDS.values() for step in steps} | {REJECT}
    assert all(callable(work_of(step)) for step in STEPS)
    for module, function in STEPS.values():
        assert callable(getattr(import_module(f"stack.workflows.orchestrator.{module}"), function))

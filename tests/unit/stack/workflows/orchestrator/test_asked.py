"""What a run may be asked to do, and what begins one by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module

import msgspec
import pytest

from stack.workflows.orchestrator.asked import CycleSpec, TrialSpec, check, read, read_file, train_request
from stack.workflows.orchestrator.learning import pin
from stack.workflows.orchestrator.sensing import DataArrived, sensors_of
from stack.workflows.orchestrator.stepping import STEPS, work_of
from trading.errors import ConfigurationError, SourceError
from trading.history.archive import HEAD, ArchiveHead, PartitionHead
from trainers.orchestrator.cycle import KINDS, REJECT
from trainers.orchestrator.runs import RunRequest

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
        ("update", {}, "is no kind of run"),
    ],
)
def test_what_is_wrong_is_told_by_where_it_is(kind, spec, words):
    with pytest.raises(ConfigurationError, match=words):
        check(request(kind, **spec))


def test_batches_are_as_many_times_smaller_as_memory_was_short():
    spec = read({"data": ["x"], "training": {"batch_size": 512}}, CycleSpec, "cycle")
    assert [train_request(spec, divisor).batch_size for divisor in (1, 2, 1000)] == [512, 256, 8]
    trial = read({"data": ["x"], "study": "s"}, TrialSpec, "trial")
    assert train_request(trial).batch_size == 1024
    assert train_request(trial).settings().fold.loop.batch_size == 1024


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
    assert sensors_of(None, 0, None) == []
    with pytest.raises(ConfigurationError, match="ULTRATHINK_ORCHESTRATOR_CYCLE"):
        sensors_of(tmp_path, 5, None)


def test_every_step_of_every_kind_is_done_by_something():
    assert set(STEPS) == {step for steps in KINDS.values() for step in steps} | {REJECT}
    assert all(callable(work_of(step)) for step in STEPS)
    for module, function in STEPS.values():
        assert callable(getattr(import_module(f"stack.workflows.orchestrator.{module}"), function))

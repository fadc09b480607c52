"""A training that does not die: killed and resumed to the same bits, halved where it does not fit, ended in time."""

from __future__ import annotations

import json
import os

import psutil
import pytest
import torch
from torch import nn

from trading.errors import ConfigurationError
from trainers import memory_budget
from trainers.training.checkpoint import Checkpoints
from trainers.training.loop import DoesNotFit, LoopSettings, Task, fit

X = torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
Y = X @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]]) + 0.1 * torch.randn(
    500, 1, generator=torch.Generator().manual_seed(2)
)
SETTINGS = LoopSettings(epochs=6, batch_size=64, seed=3, min_steps=1)


def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def task(net, loss=None, validation=None):
    def plain(rows):
        return (net(X[rows]) - Y[rows]).square().mean()

    return Task("stage", net, len(X), loss or plain, validation or (lambda: float((net(X) - Y).square().mean())))


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


class Killed(BaseException):
    """As if by a signal: nothing is tidied up."""


@pytest.mark.parametrize("at", [1, 8, 9, 20, 47])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, monkeypatch, at):
    monkeypatch.setattr("trainers.training.loop.CHECKPOINT_S", 0.0)  # after each step
    whole = module()
    expected = fit(task(whole), SETTINGS)

    def die(step):
        if step.done == at:
            raise Killed

    checkpoints = Checkpoints(tmp_path, {"a": 1})
    checkpoints.open(fresh=False)
    with pytest.raises(Killed):
        fit(task(module()), SETTINGS, checkpoints, die)
    resumed = module()
    steps = []
    found = fit(task(resumed), SETTINGS, checkpoints, lambda step: steps.append(step.done))
    assert torch.equal(weights(whole), weights(resumed))
    assert found == expected
    assert steps[0] in {at, at + 1}


def test_a_batch_that_does_not_fit_is_halved_and_gives_the_same_step():
    whole, halved = module(), module()
    expected = fit(task(whole), SETTINGS)
    largest = []

    def tight(rows):
        if len(rows) > 20:
            raise MemoryError
        largest.append(len(rows))
        return (halved(X[rows]) - Y[rows]).square().mean()

    found = fit(task(halved, tight), SETTINGS)
    assert found.parts == 4
    assert max(largest) == 16
    torch.testing.assert_close(weights(whole), weights(halved), rtol=1e-4, atol=1e-5)
    assert found.losses == pytest.approx(expected.losses, rel=1e-4)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_what_never_fits_is_a_sentence(error):
    net = module()

    def never(rows):
        raise error

    with pytest.raises(DoesNotFit, match="not even a batch of one fits"):
        fit(task(net, never), SETTINGS)


def test_another_error_is_not_taken_for_memory():
    def wrong(rows):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        fit(task(module(), wrong), SETTINGS)


def test_the_best_epoch_is_kept_and_patience_ends_a_training():
    net = module()
    losses = iter([3.0, 1.0, 2.0, 2.5, 0.1])
    seen = []

    def validation():
        seen.append(weights(net).clone())
        return next(losses)

    found = fit(task(net, validation=validation), LoopSettings(epochs=6, batch_size=64, patience=2, min_steps=1))
    assert found.validation == [3.0, 1.0, 2.0, 2.5]
    assert found.best_epoch == 1
    assert torch.equal(weights(net), seen[1])


def test_a_checkpoint_is_whole_or_the_one_before(tmp_path):
    checkpoints = Checkpoints(tmp_path, {"a": 1})
    assert checkpoints.open(fresh=False) == ""
    checkpoints.save("stage", {"x": torch.ones(2), "n": 1.5})
    assert checkpoints.load("stage")["x"].tolist() == [1.0, 1.0]
    with pytest.raises(AttributeError):
        checkpoints.save("stage", {"x": lambda: None})  # what cannot be written
    assert checkpoints.load("stage")["n"] == 1.5
    (checkpoints.folder / "torn.pt").write_bytes(b"PK\x03")
    assert checkpoints.load("torn") is None
    assert [p for p in checkpoints.folder.iterdir() if p.name.startswith(".stage")] == []
    assert Checkpoints(tmp_path, {"a": 2}).folder != checkpoints.folder


def test_a_checkpoint_is_read_without_unpickling(tmp_path):
    class Bad:
        def __reduce__(self):
            return (os.system, ("touch /tmp/should-not-exist",))

    checkpoints = Checkpoints(tmp_path, {})
    checkpoints.open(fresh=False)
    torch.save({"x": Bad()}, checkpoints.folder / "bad.pt")
    with pytest.raises(Exception, match="(?i)weights_only|unsupported"):
        torch.load(checkpoints.folder / "bad.pt", weights_only=True)
    assert checkpoints.load("bad") is None


def test_one_training_at_a_time_and_a_dead_one_is_told(tmp_path):
    checkpoints = Checkpoints(tmp_path, {})
    checkpoints.open(fresh=False)
    checkpoints.save("fold1-regime_detection", {})
    (checkpoints.folder / "running.json").write_text(
        json.dumps({"pid": os.getppid(), "since": psutil.Process(os.getppid()).create_time()})
    )
    with pytest.raises(ConfigurationError, match="trains the same now"):
        checkpoints.open(fresh=False)
    (checkpoints.folder / "running.json").write_text(json.dumps({"pid": os.getppid(), "since": 1.0}))
    assert "exit 137" in checkpoints.open(fresh=False)
    checkpoints.close(finished=True)
    assert not checkpoints.folder.exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 2**29), ("6G", 6 * 2**30), ("6GB", 6 * 2**30), ("1.5GiB", 3 * 2**29), ("1048576", 2**20)],
)
def test_memory_is_read_as_people_write_it(text, size):
    assert memory_budget.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "0G", "-1G", "5X"])
def test_what_is_no_memory_says_what_was_expected(text):
    with pytest.raises(ConfigurationError, match="expected a number"):
        memory_budget.parse_bytes(text)


def test_a_control_group_bounds_what_is_available(tmp_path):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert memory_budget.available_bytes(tmp_path) == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_budget.available_bytes(tmp_path) > 2**28
    with pytest.raises(ConfigurationError, match="below the"):
        memory_budget.limit_memory(2**20)


def test_exits_are_called_what_they_are():
    assert "killed (exit 137)" in memory_budget.explain_exit(-9, 2**30, None)
    assert "1,024 MB" in memory_budget.explain_exit(137, 2**30, None)
    assert "memory budget of 2,048 MB" in memory_budget.explain_exit(3, 0, 2**31)
    assert memory_budget.explain_exit(-15, 0, None) == "ended by signal 15"
    assert memory_budget.explain_exit(1, 0, None) == "exit 1"


def test_a_training_computes_with_as_many_threads_as_its_checkpoints_say():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        memory_budget.be_deterministic(1)
        assert torch.get_num_threads() == memory_budget.THREADS == 1
        memory_budget.be_deterministic(1, threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(False)

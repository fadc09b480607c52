"""Many experiments in processes of their own: memory is respected, a kill is told, a search goes on."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from msgspec.structs import replace

from tests.unit.trainers.conftest import dataset
from trading.errors import ConfigurationError
from trainers import memory_budget
from trainers.training.fold import FoldSettings
from trainers.training.loop import LoopSettings
from trainers.trials import worker
from trainers.trials.search import SearchSettings, search
from trainers.trials.trial_runner import Resources, TrialRunner
from trainers.trials.worker import Spec, until
from trainers.walk_forward import TrainSettings

QUICK = TrainSettings(fold=FoldSettings(teacher="hmm", loop=LoopSettings(epochs=1)), folds=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("experiments") / "data"
    dataset(where, "simulate:regimes?seed=9&ticks=6000&symbols=1")
    return where


def spec(folder, name, **changes):
    return replace(Spec(name, str(folder), QUICK), **changes)


@pytest.mark.slow
def test_an_experiment_without_memory_says_so_and_the_others_go_on(folder):
    runner = TrialRunner(jobs=2, memory=8 * 2**30)
    done = []
    found = runner.run(
        [
            spec(folder, "good"),
            spec(folder, "tight", memory_bytes=memory_budget.BASE_BYTES // 2),
            spec("/nowhere", "lost"),
        ],
        lambda outcome: done.append(outcome.name),
    )
    good, tight, lost = found
    assert good.result is not None
    assert good.why == ""
    assert good.peak_bytes > 2**27
    assert tight.result is None
    assert "below the" in tight.why
    assert "holds no dataset" in lost.why
    assert sorted(done) == ["good", "lost", "tight"]


def test_a_killed_experiment_is_called_exit_137(folder):
    runner = TrialRunner(jobs=1, memory=8 * 2**30)

    def kill():
        while not runner._children:
            time.sleep(0.01)
        os.kill(next(iter(runner._children)), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    (found,) = runner.run([spec(folder, "victim")])
    killer.join()
    assert found.result is None
    assert "killed (exit 137)" in found.why


def test_twenty_experiments_share_a_budget():
    """No more run at once than their memory allows; one alone may always run."""
    resources, running, most = Resources(budget=250, gpu_places=1), 0, 0
    lock = threading.Lock()

    def work(need):
        nonlocal running, most
        with resources.take(need, gpu=False):
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.02)
            with lock:
                running -= 1

    threads = [threading.Thread(target=work, args=(100,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2
    with resources.take(10_000, gpu=True):
        pass


def test_a_hold_out_is_not_touched(small):
    part = until(small, 0.75)
    assert len(part) < len(small)
    begins = small.time_ns[len(part)]
    assert part.time_ns.max() < begins
    assert (part.labels.end_ns[part.labels.valid] < begins).all()
    assert 0 < part.labels.valid.sum() < small.labels.valid[: len(part)].sum()
    assert until(small, 1.0) is small
    assert part.features.base is not None  # a view


@pytest.mark.slow
def test_a_search_is_resumed_and_counts_what_it_tried(folder, tmp_path):
    journal, told = tmp_path / "study.journal", []

    def run(trials):
        return search("study", folder, QUICK, SearchSettings(trials=trials, jobs=2), journal, TrialRunner(2, 8 * 2**30),
                      lambda number, parameters, outcome: told.append((number, parameters, outcome)))  # fmt: skip

    first = run(2)
    assert first.complete + first.pruned == 2
    assert len(told) == 2
    again = run(3)
    assert len(told) == 3
    assert again.complete + again.pruned == 3
    assert {"learning_rate", "turnover_penalty", "epochs"} <= set(again.parameters)
    assert again.value >= first.value
    assert all(outcome.result or outcome.pruned for _, _, outcome in told)


def test_a_search_in_which_nothing_finishes_says_so(tmp_path):
    with pytest.raises(ConfigurationError, match="no trial of study finished"):
        search("study", tmp_path, QUICK, SearchSettings(trials=1), tmp_path / "j", TrialRunner(1), lambda *_: None)


def test_a_spec_that_is_none_is_a_sentence(tmp_path, capsys, monkeypatch):
    path = tmp_path / "spec.json"
    path.write_text('{"name": 1}')
    monkeypatch.setattr("sys.argv", ["worker", str(path)])
    assert worker.main() == worker.BAD_INPUT
    assert "Expected `str`" in capsys.readouterr().err

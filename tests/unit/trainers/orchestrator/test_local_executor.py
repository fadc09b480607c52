"""Steps as processes of this machine."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.waiting import eventually
from trading.errors import ConfigurationError
from trainers.orchestrator.admission import Need, Pool
from trainers.orchestrator.executors import local
from trainers.orchestrator.executors.local import LocalExecutor, place_of
from trainers.orchestrator.ports import StepTask

SCRIPT = """
import signal, sys, time
print("begins", sys.argv[1], sys.argv[2], flush=True)
{work}
"""


@pytest.fixture
def executor(tmp_path):
    """Makes executors of a script; what they started is ended."""
    started = []

    def make(work, ceilings=None):
        path = tmp_path / f"step{len(started)}.py"
        path.write_text(SCRIPT.format(work=work))
        made = LocalExecutor(
            Pool(local.space_id(), 1_000, 0, 4), [sys.executable, str(path)], tmp_path / "logs", ceilings=ceilings
        )
        started.append(made)
        return made

    yield make
    for made in started:
        for reference in list(made._promised):
            made.stop(reference)
            made.look(reference)


def task(run="abc", fence=1, memory_mb=200):
    return StepTask(run, fence, "train", Need(memory_mb))


def ended(executor, reference):
    seen = []
    eventually(lambda: seen.append(executor.look(reference)) or not seen[-1].lives, 20)
    return seen[-1]


def test_it_is_told_its_run_and_fence_and_what_it_prints_is_kept(executor):
    one = executor("sys.exit(3)")
    reference = one.start(task(fence=7))
    assert ended(one, reference).exit_code == 3
    assert list(one.log("abc", 7)) == ["begins abc 7"]
    with pytest.raises(ConfigurationError, match="nothing is kept"):
        list(one.log("abc", 8))
    with pytest.raises(ConfigurationError, match="nothing is kept"):
        list(one.log("../abc", 7))
    one.forget("abc")
    with pytest.raises(ConfigurationError):
        list(one.log("abc", 7))


def test_a_later_process_finds_it_by_its_reference(executor, tmp_path):
    one = executor("time.sleep(60)")
    reference = one.start(task())
    later = LocalExecutor(one.pool, ["true"], tmp_path / "logs")
    assert later.owns(reference)
    assert later.look(reference).lives
    later.stop(reference)
    eventually(lambda: not one.look(reference).lives, 10)
    assert not later.look(reference).lives


def test_a_number_that_was_given_again_is_another_process(executor):
    one = executor("time.sleep(60)")
    reference = one.start(task())
    place = place_of(reference)
    other = f"local:{place.space}:{place.pid}:{place.tick + 1}"
    assert not one.look(other).lives
    one.stop(other)
    assert one.look(reference).lives


def test_what_runs_elsewhere_is_not_ours(executor):
    one = executor("pass")
    for reference in ("kubernetes:desk:step-a-1", "local:another-machine:1:1", "local:x", "", "local:a:b:c"):
        assert not one.owns(reference)


def test_it_is_ended_with_all_that_it_started_also_where_it_stands_still(executor, tmp_path):
    path = tmp_path / "child"
    one = executor(
        "import subprocess\n"
        f"child = subprocess.Popen(['sleep', '60']); open({str(path)!r}, 'w').write(str(child.pid))\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"
    )
    reference = one.start(task())
    eventually(lambda: path.exists() and path.read_text(), 10)
    assert one.pause(reference, paused=True)
    one.stop(reference)
    assert ended(one, reference).exit_code == -signal.SIGKILL
    child = int(path.read_text())
    eventually(lambda: local.stat_of(child)[0] in {"X", "Z"}, 10)


def test_it_stands_still_and_goes_on(executor, tmp_path):
    path = tmp_path / "beats"
    one = executor(f"while True:\n    open({str(path)!r}, 'a').write('.'); time.sleep(0.01)")
    reference = one.start(task())
    eventually(path.exists, 10)
    assert one.pause(reference, paused=True)
    eventually(lambda: local.stat_of(place_of(reference).pid)[0] == "T", 5)
    size = path.stat().st_size
    assert path.stat().st_size == size
    assert one.look(reference).lives
    assert one.pause(reference, paused=False)
    eventually(lambda: path.stat().st_size > size, 5)


def test_who_kills_it_is_not_taken_for_the_kernel(executor):
    one = executor("time.sleep(60)")
    reference = one.start(task())
    os.kill(place_of(reference).pid, signal.SIGKILL)
    seen = ended(one, reference)
    assert seen.exit_code == -9
    assert seen.out_of_memory is False


def test_without_a_group_it_is_ended_above_what_it_was_promised(executor):
    one = executor("x = bytearray(200 * 2**20)\ntime.sleep(60)")
    reference = one.start(task(memory_mb=60))
    seen = ended(one, reference)
    assert seen.out_of_memory
    assert "it used" in seen.why
    assert seen.peak_mb > 60


class Counted:
    """Implements Ceilings: the kernel ended one, or none."""

    def __init__(self, kills):
        self._kills, self.removed = kills, []

    def place(self, name, pid, limit_mb, *, yields=False):
        return True

    def kills(self, name):
        return self._kills.pop(0)

    def remove(self, name):
        self.removed.append(name)


@pytest.mark.parametrize(("kills", "out"), [([0, 1], True), ([0, 0], False), ([None, None], None)])
def test_whether_the_kernel_ended_it_its_group_tells(executor, kills, out):
    ceilings = Counted(kills)
    one = executor("time.sleep(60)", ceilings)
    reference = one.start(task())
    os.kill(place_of(reference).pid, signal.SIGKILL)
    assert ended(one, reference).out_of_memory is out
    assert ceilings.removed == ["step-abc-1"]

"""A step in a group of the kernel's own that takes more memory than it was promised."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing

import psutil
import pytest

from stack.servers.identity import Families
from stack.supervision.cgroups import find_groups
from tests.waiting import eventually
from trainers.orchestrator.admission import Need, Pool
from trainers.orchestrator.executors import local
from trainers.orchestrator.executors.local import LocalExecutor
from trainers.orchestrator.ports import StepTask

#: Faster than anybody looks.
TAKES = "import sys\nall = [bytearray(2**24) for _ in range(int(sys.argv[3]))]\n"
WITHIN = """
import sys, time
from pathlib import Path
from stack.servers.identity import Families
from stack.supervision.cgroups import find_groups
from trainers.orchestrator.admission import Need, Pool
from trainers.orchestrator.executors import local
from trainers.orchestrator.ports import StepTask

sys.stdin.readline()
command = [sys.executable, {step!r}, "run", "1", "30"]
groups = find_groups(Path({home!r}))
executor = local.LocalExecutor(Pool(local.space_id(), 1_000, 0, 4), command, Path({logs!r}), ceilings=groups)
reference = executor.start(StepTask("run", 1, "train", Need(900)))
while (seen := executor.look(reference)).lives:
    time.sleep(0.02)
groups.close()
print(seen.exit_code, seen.out_of_memory)
"""
#: A child in its session, and one in another, of 100 MB each.
STARTS = """
import subprocess, sys
takes = "import sys; all = bytearray(10**8); print(1, flush=True); sys.stdin.read()"
for apart in (False, True):
    child = subprocess.Popen([sys.executable, "-c", takes], stdout=subprocess.PIPE, start_new_session=apart)
    child.stdout.readline()
print("both", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def groups(tmp_path):
    found = find_groups(tmp_path)
    if found is None:
        pytest.skip("the kernel lets this process make no groups")
    with closing(found):
        yield found


@pytest.mark.parametrize(("megabytes", "killed"), [(1024, True), (32, False)])
def test_the_kernel_ends_it_and_is_named(tmp_path, groups, megabytes, killed):
    path = tmp_path / "step.py"
    path.write_text(TAKES)
    command = [sys.executable, str(path), "run", "1", str(megabytes // 16)]
    executor = LocalExecutor(Pool(local.space_id(), 1_000, 0, 4), command, tmp_path / "logs", ceilings=groups)
    reference = executor.start(StepTask("run", 1, "train", Need(150)))
    seen = []
    eventually(lambda: seen.append(executor.look(reference)) or not seen[-1].lives)
    assert (seen[-1].exit_code, seen[-1].out_of_memory) == ((-signal.SIGKILL, True) if killed else (0, False))


def test_a_step_of_an_orchestrator_with_a_ceiling_has_its_own(tmp_path, groups):
    """As the supervisor starts one: in a group of less than its step takes."""
    path = tmp_path / "step.py"
    path.write_text(TAKES)
    within = tmp_path / "orchestrator.py"
    within.write_text(WITHIN.format(step=str(path), home=str(tmp_path / "steps"), logs=str(tmp_path / "logs")))
    process = subprocess.Popen([sys.executable, str(within)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert groups.place("orchestrator", process.pid, 200)
    told, _ = process.communicate(b"go\n", 60)
    groups.remove("orchestrator")
    assert (process.returncode, told.split()) == (0, [b"0", b"False"])


def test_what_it_starts_in_sessions_of_their_own_is_not_counted_with_a_service():
    with subprocess.Popen(
        [sys.executable, "-c", STARTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout.readline() == "both\n"
        one = psutil.Process(parent.pid)
        families = Families()
        whole, apart = (families.usage(one, anew=True, sessions_apart=apart).memory_mb for apart in (False, True))
        assert whole > 190
        assert 95 < apart < 150
        parent.stdin.close()


def test_what_yields_gets_what_others_leave_of_a_processor(groups):
    """Both spin on one processor: each would have half of it, in a session of its own or not."""
    spins = ["import os; os.sched_setaffinity(0, [0]); print(1, flush=True)\nwhile True: pass"]
    spinning = [
        subprocess.Popen([sys.executable, "-c", *spins], stdout=subprocess.PIPE, start_new_session=True)
        for _ in range(2)
    ]
    try:
        placed = [groups.place(f"spin-{k}", one.pid, 100, yields=bool(k)) for k, one in enumerate(spinning)]
        assert placed == [True, True]
        for one in spinning:
            one.stdout.readline()
        others, yielding = (psutil.Process(one.pid) for one in spinning)
        before = [one.cpu_times().user for one in (others, yielding)]
        eventually(lambda: others.cpu_times().user - before[0] > 2.0, 60)
        assert yielding.cpu_times().user - before[1] < 0.2
    finally:
        for one in spinning:
            one.kill()
            one.wait()
            one.stdout.close()

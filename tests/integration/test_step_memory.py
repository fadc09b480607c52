"""A step in a group of the kernel's own that takes more memory than it was promised."""

from __future__ import annotations

import signal
import sys
from contextlib import closing

import pytest

from stack.supervision.cgroups import find_groups
from tests.waiting import eventually
from trainers.orchestrator.admission import Need, Pool
from trainers.orchestrator.executors import local
from trainers.orchestrator.executors.local import LocalExecutor
from trainers.orchestrator.ports import StepTask

#: Faster than anybody looks.
TAKES = "import sys\nall = [bytearray(2**24) for _ in range(int(sys.argv[3]))]\n"


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

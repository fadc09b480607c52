"""Exit 137 is named for what it is, and a ceiling is kept by the kernel where it lets us."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from stack.supervision.cgroups import MB, SLACK, V2, Groups, find_groups
from stack.supervision.memory import exit_in_words, near_ceiling, oom_kills


@pytest.mark.parametrize(
    ("code", "before", "now", "words"),
    [
        (-9, 3, 4, "out of memory"),
        (137, 3, 4, "out of memory"),
        (-9, 3, 3, "by hand"),
        (-9, None, None, "out of memory, or killed by hand"),
        (-15, 3, 4, "SIGTERM"),
        (1, 3, 4, "exit 1"),
    ],
)
def test_an_exit_is_named_by_what_the_kernel_tells(code, before, now, words):
    assert words in exit_in_words(code, before, now)
    assert ("137" in exit_in_words(code, before, now)) == (code in {-9, 137})


def test_the_kernels_count_is_read_where_it_is(tmp_path):
    assert oom_kills(tmp_path / "none") is None
    (tmp_path / "vmstat").write_text("nr_free_pages 5\noom_kill 7\noom_kill_disable 0\n")
    assert oom_kills(tmp_path / "vmstat") == 7


def test_a_process_near_its_ceiling_is_told_of_before_it_is_ended():
    assert near_ceiling("triton", 3600, 4096) == ""
    assert "3,900 of 4,096 MB" in near_ceiling("triton", 3900, 4096)


def test_a_group_that_was_given_to_us_limits_each_service(tmp_path):
    """The kernel's files of the newer form, laid down by hand: this machine may have only the older one."""
    (tmp_path / "cgroup").write_text("0::/\n")
    ours = tmp_path / "fs"
    (ours / "supervisor").mkdir(parents=True)
    (ours / "cgroup.controllers").write_text("cpu memory\n")
    (ours / "cgroup.procs").write_text("41\n")
    groups = find_groups(tmp_path, tmp_path / "fs", tmp_path / "cgroup")
    assert (ours / "supervisor" / "cgroup.procs").read_text() == "41"
    assert (ours / "cgroup.subtree_control").read_text() == "+memory"
    assert groups.place("triton", 42, 4096)
    assert (ours / "triton" / "memory.max").read_text() == str(int(4096 * SLACK) * MB)
    assert (ours / "triton" / "cgroup.procs").read_text() == "42"
    assert groups.kills("triton") is None
    (ours / "triton" / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n")
    assert groups.kills("triton") == 2


@pytest.mark.parametrize("text", ["", "0::/desk.service\n", "5:cpu:/\n"])
def test_where_no_group_is_ours_the_ceiling_is_watched(tmp_path, text):
    (tmp_path / "cgroup").write_text(text)
    assert find_groups(tmp_path, tmp_path / "fs", tmp_path / "cgroup") is None
    assert Groups(tmp_path / "gone", V2).place("x", 1, 1) is False


def test_the_kernel_ends_what_grows_beyond_its_group(tmp_path):
    groups = find_groups(tmp_path)
    if groups is None:
        pytest.skip("no control group can be made here")
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(1); x = bytearray(400 * 2**20); time.sleep(60)"]
        )
        assert groups.place("greedy", process.pid, 64)
        before = groups.kills("greedy")
        code = process.wait(30)
        assert "out of memory" in exit_in_words(code, before, groups.kills("greedy"))
        time.sleep(0.1)
    finally:
        groups.close()

"""Exit 137 is named for what it is, and a ceiling is kept by the kernel where it lets us."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from connectors.kernel import oom_kills
from stack.supervision import memory
from stack.supervision.cgroups import MB, SLACK, V2, YIELDING, Groups, find_groups
from stack.supervision.memory import MemoryKills, exit_in_words, near_ceiling


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
    # Written one behind the other: the kernel takes each by itself.
    assert (ours / "cgroup.subtree_control").read_text() == "+cpu"
    # The next `up` finds itself where the first one put its shell; and another desk's groups are others.
    (tmp_path / "cgroup").write_text("0::/supervisor\n")
    again, other = (find_groups(home, ours, tmp_path / "cgroup") for home in (tmp_path, tmp_path / "other"))
    assert again is not None
    assert other.place("triton", 7, 100)
    (ours,) = [p for p in ours.glob("ultrathink-*") if p != other._folder and not p.name.endswith(YIELDING)]
    assert (ours / "cgroup.subtree_control").read_text() == "+memory"
    assert groups.place("triton", 42, 4096)
    assert (ours / "triton" / "memory.max").read_text() == str(int(4096 * SLACK) * MB)
    assert (ours / "triton" / "cgroup.procs").read_text() == "42"
    assert groups.kills("triton") is None
    (ours / "triton" / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n")
    assert groups.kills("triton") == 2
    assert groups.holds("triton", 42)
    assert not groups.holds("triton", 4)
    assert not groups.holds("redis", 42)
    # What yields lies below a folder that yields to everything else: a share counts among those of one folder.
    assert groups.place("training", 43, 100, yields=True)
    apart = ours.with_name(ours.name + YIELDING)
    assert (apart / "cpu.idle").read_text() == "1"
    assert (apart / "training" / "cgroup.procs").read_text() == "43"
    assert groups.holds("training", 43)
    (apart / "training" / "memory.events").write_text("oom_kill 1\n")
    assert groups.kills("training") == 1


@pytest.mark.parametrize(
    ("path", "above"),
    [("/ultrathink-0123456789ab/orchestrator", ""), ("/docker/7/ultrathink-0123456789ab/orchestrator", "docker/7"),
     ("/docker/ultrathink-pilot", "docker/ultrathink-pilot"), ("/", "")],
)  # fmt: skip
def test_groups_of_a_process_that_is_in_one_of_ours_lie_beside_it(tmp_path, path, above):
    """What is below a group counts for its ceiling, too."""
    (tmp_path / "cgroup").write_text(f"9:memory:{path}\n4:cpu,cpuacct:{path}\n0::/\n")
    for kind in ("memory", "cpu"):
        (tmp_path / "fs" / kind / above).mkdir(parents=True)
    groups = find_groups(tmp_path, tmp_path / "fs", tmp_path / "cgroup")
    (made,) = (tmp_path / "fs" / "memory" / above).glob("ultrathink-*[0-9a-f]")
    assert groups is None
    assert made.parent == tmp_path / "fs" / "memory" / above
    v2 = tmp_path / "v2"
    v2.mkdir()
    (v2 / "cgroup.controllers").write_text("cpu memory")
    (v2 / "cgroup.procs").write_text("")
    (tmp_path / "cgroup").write_text(f"0::{path}\n")
    (v2 / "supervisor").mkdir()
    assert (find_groups(tmp_path, v2, tmp_path / "cgroup") is not None) == (above == "")


class Counted:
    """Groups whose counts the test says."""

    def __init__(self, *, takes=True):
        self.count, self.takes, self.held = 0, takes, set()

    def place(self, name, pid, limit_mb):
        self.held.add(pid)
        return self.takes

    def holds(self, name, pid):
        return pid in self.held

    def kills(self, name):
        return self.count


def test_a_part_that_was_ended_is_counted_once_and_known_for_a_while(monkeypatch):
    groups = Counted()
    kills = MemoryKills(groups, "triton")
    kills.begin(7, 100, is_new=True)
    assert (kills.look(), kills.ended_a_part_lately()) == (0, False)
    groups.count = 2
    assert [kills.look(), kills.look()] == [2, 0]
    assert kills.ended_a_part_lately()
    monkeypatch.setattr(memory, "LATELY_S", 0.0)
    assert not kills.ended_a_part_lately()


def test_one_that_the_kernel_counts_before_it_is_gone_has_ended_for_memory():
    groups = Counted()
    kills = MemoryKills(groups, "redis")
    kills.begin(7, 100, is_new=True)
    groups.count = 1
    kills.look()
    assert "out of memory" in kills.exit_in_words(-9)
    # Long afterwards it is another matter.
    kills.look()
    assert "by hand" in kills.exit_in_words(-9)


@pytest.mark.parametrize("code", [-11, 1, None])
def test_one_that_crashes_for_a_part_that_the_kernel_ended_has_ended_for_memory(code):
    groups = Counted()
    kills = MemoryKills(groups, "triton")
    kills.begin(7, 100, is_new=True)
    assert "out of memory" not in kills.exit_in_words(code)
    # Nobody had looked yet.
    groups.count = 1
    told = kills.exit_in_words(code)
    assert told.endswith("(out of memory: the kernel ended a part of it before)")
    kills.look()
    assert kills.exit_in_words(code) == told
    kills.look()
    assert "out of memory" not in kills.exit_in_words(code)
    # Without a group of its own somebody else may have been ended.
    alone = MemoryKills(None, "triton")
    alone.begin(7, 100, is_new=True)
    assert "out of memory" not in alone.exit_in_words(code)


@pytest.mark.parametrize("code", [0, -15, 143, -2, 130])
def test_who_was_asked_to_end_has_not_ended_for_a_part_that_it_lost(code):
    groups = Counted()
    kills = MemoryKills(groups, "triton")
    kills.begin(7, 100, is_new=True)
    groups.count = 1
    assert "out of memory" not in kills.exit_in_words(code)


def test_a_count_that_cannot_be_read_says_nothing():
    groups = Counted()
    kills = MemoryKills(groups, "redis")
    groups.count = None
    kills.begin(7, 100, is_new=True)
    groups.count = 40
    assert kills.look() == 0
    assert "out of memory, or killed by hand" in MemoryKills(Counted(takes=False), "x").exit_in_words(-9)


def test_of_an_adopted_process_the_group_is_known_where_it_is_in_one():
    groups = Counted()
    first, second, stranger = (MemoryKills(groups, "triton") for _ in range(3))
    first.begin(7, 100, is_new=True)
    second.begin(7, 100, is_new=False)
    stranger.begin(8, 100, is_new=False)
    groups.count = 1
    assert (second.look(), stranger.look()) == (1, 0)


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

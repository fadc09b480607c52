"""The desk is reduced before the disk is full, told once, and told again when nobody could be."""

from __future__ import annotations

import time

import pytest

from stack.supervision import disk
from stack.supervision.disk import LOOK_S, DiskWatch
from trading.errors import ServiceUnavailable


class Desk:
    def __init__(self, failures=0):
        self.told, self.failures = [], failures

    def reduce(self, reason):
        if self.failures:
            self.failures -= 1
            raise ServiceUnavailable("nobody is there")
        self.told.append(reason)


class Disk:
    left = 5_000

    def free_mb(self, home):
        if isinstance(self.left, Exception):
            raise self.left
        return self.left


def looked(watch, times, start=0):
    for k in range(times):
        watch.look((start + k + 1) * (LOOK_S + 0.1))
        deadline = time.monotonic() + 5
        while watch._telling is not None and watch._telling.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.001)


@pytest.fixture
def parts(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "AGAIN_S", 0.001)
    desk, space = Desk(), Disk()
    return DiskWatch(tmp_path, 1024, desk.reduce, space.free_mb), desk, space


def test_enough_space_is_no_problem(parts):
    watch, desk, _ = parts
    looked(watch, 3)
    assert (watch.problem, desk.told) == ("", [])


def test_too_little_is_told_once_and_again_only_after_there_was_enough(parts):
    watch, desk, space = parts
    space.left = 1023
    looked(watch, 4)
    assert len(desk.told) == 1
    assert "1,023 MB left, less than 1,024" in watch.problem
    space.left = 1024
    looked(watch, 1, 10)
    assert watch.problem == ""
    space.left = 7
    looked(watch, 2, 20)
    assert len(desk.told) == 2


def test_while_nobody_can_be_told_it_is_tried_again(parts):
    watch, desk, space = parts
    desk.failures, space.left = 3, 1
    looked(watch, 6)
    assert len(desk.told) == 1


def test_a_disk_that_cannot_be_looked_at_is_said(parts):
    watch, desk, space = parts
    space.left = OSError(5, "Input/output error")
    looked(watch, 1)
    assert "Input/output error" in watch.problem
    assert desk.told == []

"""A service's end is noticed when it happens, and a stop waits for no probe."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from stack.servers.identity import Identity
from stack.servers.server import AtWork, NotReady, Service
from stack.supervision import runner as module
from stack.supervision.runner import Runner
from stack.supervision.status import BACKING_OFF, FAILED, READY, STOPPED, WAITING
from tests.waiting import eventually


def service(command, folder: Path, probed) -> Service:
    def probe() -> str:
        probed.append(time.monotonic())
        return "1"

    return Service(
        name="one", endpoint="nowhere", ports=(), command=lambda: [sys.executable, "-c", command], probe=probe,
        memory_limit_mb=1024, folder=folder,
    )  # fmt: skip


@contextmanager
def running(folder):
    """A runner of a service that only sleeps, and when that was asked whether it is ready."""
    probed = []
    one = Runner(folder, service("import time; time.sleep(600)", folder, probed), {})
    one.start()
    try:
        yield one, probed
    finally:
        one.stop()
        one.join(10.0)


def test_a_service_that_ends_is_started_again_without_waiting_for_the_next_probe(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PROBE_EVERY_S", 3600.0)
    with running(tmp_path) as (one, probed):
        eventually(lambda: one.status.state == READY)
        first = one.status.process
        first.find().kill()
        eventually(lambda: one.status.restarts == 1 and one.status.state == READY)
        assert one.status.process != first
        assert "137" in one.status.last_exit
        # Nothing but the two starts was asked for: no probe was due, and an end that was noticed is noticed once.
        time.sleep(0.2)
        assert len(probed) == 2
    assert one.status.state == STOPPED
    assert one.status.process.find() is None


def test_a_service_is_asked_now_and_then_while_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PROBE_EVERY_S", 0.05)
    with running(tmp_path) as (one, probed):
        eventually(lambda: len(probed) > 5)
        assert one.status.memory_mb > 1


def asked_for(folder, **changes) -> Service:
    """A service that sleeps, with something else about it."""
    return dataclasses.replace(service("import time; time.sleep(600)", folder, []), **changes)


@contextmanager
def kept_running(folder, *services, running=None):
    """Runners of several services that know one another, by name."""
    known = {}
    for one in services:
        known[one.name] = Runner(folder, one, known, "settings", (running or {}).get(one.name))
    for runner in known.values():
        runner.start()
    try:
        yield known
    finally:
        for runner in known.values():
            runner.stop()
        for runner in known.values():
            runner.join(10.0)


def test_who_is_held_waits_says_why_and_starts_when_it_may(tmp_path):
    reasons = ["no model"]
    with kept_running(tmp_path, asked_for(tmp_path, hold=lambda: reasons[0])) as known:
        one = known["one"]
        eventually(lambda: one.status.held == "no model")
        assert one.status.state == WAITING
        assert one.status.process is None
        reasons[0] = ""
        eventually(lambda: one.status.state == READY)
        assert one.status.held == ""


def test_what_cannot_say_whether_it_may_start_is_held(tmp_path):
    def broken():
        raise OSError("the repository is gone")

    with kept_running(tmp_path, asked_for(tmp_path, hold=broken)) as known:
        assert eventually(lambda: "the repository is gone" in known["one"].status.held)


def test_a_group_is_there_while_more_than_half_of_it_is(tmp_path):
    up = {"kafka-1": True, "kafka-2": True, "kafka-3": False}

    def broker(name):
        def probe():
            if not up[name]:
                raise NotReady("down")
            return "1"

        return asked_for(tmp_path, name=name, probe=probe)

    needs = asked_for(tmp_path, name="gateway", requires=("kafka",))
    with kept_running(tmp_path, *(broker(name) for name in up), needs) as known:
        eventually(lambda: known["gateway"].status.state == READY)
        assert known["gateway"].degraded() == []
        assert known["gateway"].missing(("kafka-3",)) == ["kafka-3 is starting"]


def test_what_answers_is_degraded_by_whom_it_needs_and_by_what_it_says_itself(tmp_path):
    redis = asked_for(tmp_path, name="redis", hold=lambda: "not now")
    one = asked_for(tmp_path, uses=("redis",), troubles=lambda: ["its breaker is open"])
    with kept_running(tmp_path, redis, one) as known:
        eventually(lambda: known["one"].status.state == READY and known["redis"].status.state == WAITING)
        assert known["one"].degraded() == ["redis is waiting", "its breaker is open"]
        assert known["redis"].degraded() == []


def test_who_has_work_to_do_first_is_waited_for_beyond_its_time(tmp_path):
    done = threading.Event()

    def probe():
        if not done.is_set():
            raise AtWork("3 partitions are being rebuilt")
        return "1"

    with kept_running(tmp_path, asked_for(tmp_path, probe=probe, start_timeout_s=0.2)) as known:
        one = known["one"]
        eventually(lambda: one.status.busy)
        time.sleep(0.6)
        assert (one.status.restarts, one.status.detail) == (0, "3 partitions are being rebuilt")
        done.set()
        eventually(lambda: one.status.state == READY)
        assert not one.status.busy


def test_what_never_answers_is_started_anew_and_called_failed_and_still_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BACK_OFF_S", (0.05,))

    def probe():
        raise NotReady("nobody is there")

    with kept_running(tmp_path, asked_for(tmp_path, probe=probe, start_timeout_s=0.1)) as known:
        one = known["one"]
        eventually(lambda: one.status.state == FAILED)
        assert "nobody is there" in one.status.last_exit
        tried = one.status.restarts
        eventually(lambda: one.status.restarts > tried)


def test_what_hangs_after_it_was_ready_is_ended_and_started_again(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PROBE_EVERY_S", 0.02)
    monkeypatch.setattr(module, "HANGS_S", 0.3)
    hangs = threading.Event()

    def probe():
        if hangs.is_set():
            raise NotReady("timed out")
        return "1"

    with kept_running(tmp_path, asked_for(tmp_path, probe=probe)) as known:
        one = known["one"]
        eventually(lambda: one.status.state == READY)
        hangs.set()
        eventually(lambda: one.status.restarts == 1)
        assert "did not answer for" in one.status.last_exit
        hangs.clear()
        eventually(lambda: one.status.state == READY)


def test_a_restart_on_request_is_at_once_and_named(tmp_path):
    with kept_running(tmp_path, asked_for(tmp_path)) as known:
        one = known["one"]
        eventually(lambda: one.status.state == READY)
        first = one.status.process
        one.restart("new limits")
        eventually(lambda: one.status.state == READY and one.status.process != first)
        assert (one.status.last_exit, one.status.restarts) == ("new limits", 1)
        assert first.find() is None


def test_a_request_ends_the_wait_after_failures(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BACK_OFF_S", (600.0,))
    with kept_running(tmp_path, asked_for(tmp_path)) as known:
        one = known["one"]
        eventually(lambda: one.status.state == READY)
        one.status.process.find().kill()
        eventually(lambda: one.status.state == BACKING_OFF)
        one.restart("now")
        assert eventually(lambda: one.status.state == READY)


def test_what_grows_above_its_ceiling_is_ended_and_named_out_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PROBE_EVERY_S", 0.05)
    greedy = service("import time; x = bytearray(90 * 2**20); time.sleep(600)", tmp_path, [])
    with kept_running(tmp_path, dataclasses.replace(greedy, memory_limit_mb=64)) as known:
        assert eventually(lambda: "out of memory" in known["one"].status.last_exit)


def test_what_an_earlier_supervisor_left_goes_on_and_is_watched(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PROBE_EVERY_S", 0.05)
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        running = {"one": Identity.of(left.pid)}
        with kept_running(tmp_path, asked_for(tmp_path), running=running) as known:
            one = known["one"]
            eventually(lambda: one.status.state == READY)
            assert (one.status.process, one.status.restarts) == (running["one"], 0)
            eventually(lambda: one.status.memory_mb > 1)
            left.kill()
            left.wait()
            eventually(lambda: one.status.state == READY and one.status.process != running["one"])
            assert one.status.restarts == 1
        assert one.status.state == STOPPED
    finally:
        left.kill()
        left.wait()


def test_a_look_that_is_slow_as_it_becomes_ready_ends_nobody(tmp_path):
    def troubles():
        raise NotReady("timed out")

    with kept_running(tmp_path, asked_for(tmp_path, troubles=troubles)) as known:
        eventually(lambda: known["one"].status.state == READY)
        assert known["one"].status.restarts == 0


def test_a_ceiling_holds_while_it_works_toward_being_ready(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PROBE_EVERY_S", 0.05)

    def probe():
        raise AtWork("rebuilding")

    greedy = service("import time; x = bytearray(90 * 2**20); time.sleep(600)", tmp_path, [])
    with kept_running(tmp_path, dataclasses.replace(greedy, probe=probe, memory_limit_mb=64)) as known:
        assert eventually(lambda: "out of memory" in known["one"].status.last_exit)


def test_whatever_goes_wrong_a_runner_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BACK_OFF_S", (0.05, 0.05))
    broken = [True]

    def end(*_):
        if broken[0]:
            raise OSError(24, "Too many open files")
        return True

    with kept_running(tmp_path, asked_for(tmp_path)) as known:
        one = known["one"]
        eventually(lambda: one.status.state == READY)
        monkeypatch.setattr(module, "end", end)
        one.status.process.find().kill()
        eventually(lambda: "Too many open files" in one.status.detail)
        broken[0] = False
        monkeypatch.undo()
        assert eventually(lambda: one.status.state == READY, 40)


class Kills:
    """Groups of the kernel, of which the test says how many it has ended in each."""

    def __init__(self):
        self.count = 0

    def place(self, name, pid, limit_mb):
        return True

    def kills(self, name):
        return self.count


@contextmanager
def watched_parts(folder, broken, kills):
    """A service whose parts are looked at, in a group of its own."""
    one = Runner(folder, asked_for(folder, broken=broken), {}, groups=kills)
    one.start()
    try:
        eventually(lambda: one.status.state == READY)
        yield one
    finally:
        one.stop()
        one.join(10.0)


def test_what_answers_without_a_part_that_it_needs_is_started_again(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PROBE_EVERY_S", 0.05)
    why, seen, kills = [""], [], Kills()

    def broken(children):
        seen.append(children)
        return why[0]

    with watched_parts(tmp_path, broken, kills) as one:
        eventually(lambda: len(seen) > 2)
        assert one.status.restarts == 0
        kills.count, why[0] = 1, "the process of regime ended"
        eventually(lambda: one.status.restarts > 0)
        why[0] = ""
        eventually(lambda: one.status.state == READY)
        assert one.status.last_exit == "the process of regime ended: exit 137, for want of memory"
        assert one.status.out_of_memory == 1


def test_a_part_that_was_ended_for_memory_is_told_of_where_the_rest_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PROBE_EVERY_S", 0.05)
    kills = Kills()
    with watched_parts(tmp_path, lambda _: "", kills) as one:
        kills.count = 2
        eventually(lambda: one.status.out_of_memory == 2)
        assert "a part of it was ended for want of memory" in one.status.last_exit
        assert one.status.restarts == 0


@pytest.mark.parametrize("looks_every_s", [0.05, 60.0])
def test_who_crashes_for_a_part_that_the_kernel_ended_is_counted_once_whoever_looks_first(
    tmp_path, monkeypatch, looks_every_s
):
    monkeypatch.setattr(module, "PROBE_EVERY_S", looks_every_s)
    monkeypatch.setattr(module, "BACK_OFF_S", (0.05, 0.05))
    kills = Kills()
    with watched_parts(tmp_path, lambda _: "", kills) as one:
        kills.count = 1
        one.status.process.find().send_signal(signal.SIGSEGV)
        eventually(lambda: one.status.restarts == 1)
        assert "out of memory: the kernel ended a part of it before" in one.status.last_exit
        assert one.status.out_of_memory == 1

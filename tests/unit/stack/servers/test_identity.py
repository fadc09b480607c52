"""A process is known by its id and its start, and its exit in words."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import msgspec
import psutil
import pytest

from stack.servers.identity import Families, Identity, describe_exit, end


def test_only_the_process_that_was_meant_is_ended():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    identity = Identity.of(child.pid)
    assert not end(Identity(child.pid, identity.started_at - 100))
    assert child.poll() is None
    assert end(identity, timeout_s=5)
    assert child.wait() is not None
    assert not end(identity)


def test_a_corpse_that_its_parent_leaves_is_not_waited_for():
    child = "import time; print(1, flush=True); time.sleep(600)"
    parent = (
        f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True);"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as running:
        try:
            identity = Identity.of(int(running.stdout.readline()))
            ending = threading.Thread(target=end, args=(identity,), kwargs={"timeout_s": 600.0}, daemon=True)
            ending.start()
            ending.join(30.0)
            assert not ending.is_alive()
            assert psutil.Process(identity.pid).status() == psutil.STATUS_ZOMBIE
        finally:
            running.kill()


def test_exit_137_is_called_what_it_is():
    assert "out of memory" in describe_exit(-9)
    assert "memory" in describe_exit(137)
    assert describe_exit(1) == "exit 1"


def test_memory_is_that_of_the_whole_family_and_nobody_else():
    grandchild = "import time; held = bytearray(40 * 2**20); print(1, flush=True); time.sleep(60)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    families = Families(fresh_s=0.0)
    with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, start_new_session=True) as parent:
        identity = Identity.of(parent.pid)
        try:
            assert parent.stdout.readline() == b"1\n"
            assert 40 < families.usage(psutil.Process(parent.pid)).memory_mb < 200
            below = psutil.Process(parent.pid).children()[0]
            assert 40 < families.usage(below).memory_mb < families.usage(psutil.Process(parent.pid)).memory_mb
        finally:
            end(identity, timeout_s=5)
    with pytest.raises(psutil.NoSuchProcess):
        families.usage(psutil.Process(parent.pid))


def test_a_look_at_all_processes_holds_for_a_while():
    families = Families(fresh_s=3600.0)
    code = "import subprocess, sys; sys.stdin.readline(); subprocess.run([sys.executable, '-c', {!r}])"
    held = "held = bytearray(40 * 2**20); print(1, flush=True); import time; time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code.format(held)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    ) as parent:  # fmt: skip
        identity, process = Identity.of(parent.pid), psutil.Process(parent.pid)
        try:
            assert families.usage(process).memory_mb < 40
            parent.stdin.write(b"go\n")
            parent.stdin.flush()
            assert parent.stdout.readline() == b"1\n"
            assert families.usage(process).memory_mb < 40
            assert families.usage(process, anew=True).memory_mb > 40
        finally:
            end(identity, timeout_s=5)


def test_a_clock_that_jumps_makes_no_process_somebody_else(monkeypatch):
    """The time since 1970 at which a process began is reckoned from the clock's present: a step moves it."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        identity = Identity.of(child.pid)
        real = psutil._psplatform.boot_time
        monkeypatch.setattr(psutil._psplatform, "boot_time", lambda *a, **k: real(*a, **k) + 3600.0)
        assert identity.find() is not None
        assert end(identity, timeout_s=5)
    finally:
        child.kill()
        child.wait()


def test_a_process_of_before_a_reboot_is_nobody_now(monkeypatch):
    identity = Identity.of(os.getpid())
    assert identity.find() is not None
    assert msgspec.structs.replace(identity, boot="of another start").find() is None


def test_what_an_older_version_noted_is_known_still():
    old = Identity(os.getpid(), psutil.Process().create_time())
    assert old.find() is not None
    assert Identity(os.getpid(), old.started_at - 100).find() is None

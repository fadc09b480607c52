"""A process is known by its id and its start, and its exit in words."""

from __future__ import annotations

import subprocess
import sys

from stack.servers.identity import Identity, describe_exit, end


def test_only_the_process_that_was_meant_is_ended():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    identity = Identity.of(child.pid)
    assert not end(Identity(child.pid, identity.started_at - 100))
    assert child.poll() is None
    assert end(identity, timeout_s=5)
    assert child.wait() is not None
    assert not end(identity)


def test_exit_137_is_called_what_it_is():
    assert "out of memory" in describe_exit(-9)
    assert "memory" in describe_exit(137)
    assert describe_exit(1) == "exit 1"

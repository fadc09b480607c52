"""A gateway that is told to stop while it starts ends, whatever it is doing."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOGGING = """
import os, signal, sys
from connectors.logs import configure
from gateway.main import log, started

class Interrupted:
    def write(self, text):
        if "begins" in text:
            os.kill(os.getpid(), signal.SIGTERM)
        return sys.__stderr__.write(text)
    def flush(self):
        sys.__stderr__.flush()

sys.stderr = Interrupted()
configure("info")
started(lambda: log.info("begins"))
"""
CONNECTING = """
import os, signal, threading, time
from connectors.kafka.topics import TOPICS
from gateway.adapters.kafka_transactions import TransactionalSink
from gateway.main import started

class Slow(TransactionalSink):
    def _new_producer(self, turn):
        time.sleep(60)

threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
started(lambda: Slow("127.0.0.1:1", TOPICS, "g", "a", "log", lambda _: None))
"""
SWALLOWED = """
import os, signal
from gateway.main import started

class Gateway:
    def close(self):
        print("closed")

def build():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except SystemExit:
        pass
    return Gateway()

started(build)
print("went on")
"""


#: A server is away when what was opened is closed.
UNWOUND = """
import os, signal
from gateway.main import started
from trading.errors import ServiceUnavailable

def build():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        raise ServiceUnavailable("not delivered")

started(build)
print("went on")
"""


@pytest.mark.parametrize(
    ("code", "told"), [(LOGGING, ""), (CONNECTING, ""), (SWALLOWED, "closed\n"), (UNWOUND, "")]
)
def test_a_stop_is_heard(code, told):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (0, told), done.stderr
    assert "Traceback" not in done.stderr
    assert "stopped while starting" in done.stdout + done.stderr

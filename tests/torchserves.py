"""A TorchServe that tests start, as the stack's supervisor starts its own."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager

from stack.servers.server import NotReady
from stack.servers.settings import ServerPorts, StackSettings
from stack.servers.torchserve import repository_of, service
from stack.workflows.torchserve import place
from tests.waiting import eventually

STARTED_S = 60.0


class OwnTorchServe:
    """One in a home folder of its own, on free ports."""

    def __init__(self, home, **given):
        self.settings = StackSettings(home=home, ports=ServerPorts.automatic(), beside=("torchserve",), **given)
        self.settings.absolute_home.mkdir(parents=True, exist_ok=True)
        (home / "secrets").mkdir(exist_ok=True)
        # Commands find it by its home.
        self.settings.save()
        self.service = service(self.settings)
        self.repository = repository_of(self.settings)
        self.process = None

    def start(self):
        self.service.prepare()
        with (self.settings.absolute_home / "torchserve.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.service.command(), cwd=self.service.folder, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **self.service.environment()},
            )  # fmt: skip
        eventually(self.answers, STARTED_S)
        self.service.on_ready()

    def answers(self):
        try:
            return self.service.probe()
        except NotReady:
            return ""

    def end(self, how=signal.SIGTERM):
        """Its workers with it."""
        if self.process is not None:
            os.killpg(self.process.pid, how)
            self.process.wait(30)
        self.process = None

    def place(self):
        """As commands find it."""
        before = os.environ.get("ULTRATHINK_HOME")
        os.environ["ULTRATHINK_HOME"] = str(self.settings.home)
        try:
            return place()
        finally:
            os.environ.pop("ULTRATHINK_HOME")
            if before is not None:
                os.environ["ULTRATHINK_HOME"] = before

    def connect(self):
        return self.place().connect(self.repository)


@contextmanager
def running_torchserve(home, **given):
    """It answers; ended at the end."""
    one = OwnTorchServe(home, **given)
    one.start()
    try:
        yield one
    finally:
        one.end(signal.SIGKILL)

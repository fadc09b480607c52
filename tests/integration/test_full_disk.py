"""The disk of a stack fills: the desk is reduced before, nothing dies of it for good, and all comes back with space."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import pytest
from typer.testing import CliRunner

from gateway.control.control import Control
from stack.cli.main import app
from stack.servers.settings import ServerPorts, StackSettings, free_disk_mb
from stack.supervision.lifecycle import down, up
from stack.supervision.status import read_status
from tests.waiting import eventually
from trading.risk.trading_state import TradingState

pytestmark = pytest.mark.slow
LEAST_MB = 150


@pytest.fixture
def small(tmp_path):
    """A home on a disk of its own, which is small."""
    home = tmp_path / "home"
    home.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=900m", "none", os.fspath(home)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield home
    finally:
        subprocess.run(["umount", "-l", os.fspath(home)], check=True)


def leave(home, megabytes):
    """Fill the disk but for so much."""
    filler = home / "filler"
    with filler.open("ab") as file:
        while (left := free_disk_mb(home) - megabytes) > 0:
            file.write(bytes(min(left, 16) * 2**20))
            file.flush()


def fill(home):
    """Whatever still fits."""
    with (home / "filler").open("ab", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_full_disk_reduces_the_desk_and_everything_comes_back_when_there_is_space(small, tmp_path, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_HOME", os.fspath(small))
    settings = StackSettings(
        profile="servers",
        home=small,
        ports=ServerPorts.automatic(),
        model_repository=tmp_path / "models",
        least_disk_mb=LEAST_MB,
    )
    up(settings, lambda _: None)
    try:
        control = Control(settings.kafka_bootstrap, "gateway.control", settings.redis_url)
        control.latch(TradingState.ACTIVE, "test", "test")
        leave(small, LEAST_MB - 50)
        eventually(lambda: control.effective().state is TradingState.REDUCING)
        assert "MB left" in control.effective().reason
        told = CliRunner().invoke(app, ["stack", "status"])
        assert "the desk is reduced" in told.output
        fill(small)
        time.sleep(15.0)
        status = read_status(small)
        assert status is not None
        # Whatever has died of it, the supervisor has not; and an old status is not believed.
        assert status.alive
        assert status.fresh or not status.ready
        if not status.ready:
            assert CliRunner().invoke(app, ["stack", "status"]).exit_code == 1
        (small / "filler").unlink()
        eventually(lambda: (found := read_status(small)) is not None and found.ready and not found.problems, 120)
        assert control.effective().state is TradingState.REDUCING
        control.latch(TradingState.ACTIVE, "space is free", "test")
        assert control.effective().state is TradingState.ACTIVE
    finally:
        down(small)
        shutil.rmtree(small / "kafka", ignore_errors=True)


def test_a_status_of_a_supervisor_that_is_dead_is_not_believed(tmp_path, monkeypatch):
    import signal

    home = tmp_path / "home"
    monkeypatch.setenv("ULTRATHINK_HOME", os.fspath(home))
    settings = StackSettings(
        profile="servers", home=home, ports=ServerPorts.automatic(), model_repository=tmp_path / "models"
    )
    up(settings, lambda _: None)
    try:
        os.kill(read_status(home).supervisor.pid, signal.SIGKILL)
        eventually(lambda: not read_status(home).alive)
        found = CliRunner().invoke(app, ["stack", "status", "--json"])
        assert found.exit_code == 1
        assert '"ready": false' in found.output.replace('":false', '": false')
        # Started anew from elsewhere, without a flag, it is the same stack on the same ports.
        monkeypatch.chdir(tmp_path)
        again = CliRunner().invoke(app, ["stack", "up"])
        assert again.exit_code == 0, again.output
        assert str(settings.ports.redis) in again.output
        other = CliRunner().invoke(app, ["stack", "up", "--brokers", "3"])
        assert "brokers is 1, asked for is 3" in str(other.exception)
    finally:
        down(home)

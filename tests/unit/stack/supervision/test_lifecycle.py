"""Starting and stopping, where nothing runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from stack.cli.main import app
from stack.servers.identity import Identity
from stack.servers.log_files import tail
from stack.servers.settings import ServerPorts, StackSettings, load
from stack.supervision import lifecycle, orphans
from stack.supervision.checks import check_brokers
from stack.supervision.lifecycle import down, up
from stack.supervision.status import ServiceStatus, StackStatus, read_status, write_status
from trading.errors import ConfigurationError, ServiceUnavailable


def test_down_where_nothing_runs_is_harmless(tmp_path):
    assert down(tmp_path / "home") is False


def test_passwords_are_asked_for_only_after_up(tmp_path):
    with pytest.raises(ConfigurationError, match="ultrathink stack up"):
        _ = StackSettings(home=tmp_path).redis_url


def test_data_of_another_number_of_brokers_is_named(tmp_path):
    (tmp_path / "kafka" / "1").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="1 broker"):
        check_brokers(StackSettings(home=tmp_path, brokers=3))


def test_a_server_that_wrote_nothing_has_an_empty_log(tmp_path):
    assert tail(tmp_path / "absent") == []


def test_a_supervisor_of_an_older_version_is_named_and_the_settings_stay(tmp_path):
    """It tells no profile, and knows no other."""
    settings = StackSettings(home=tmp_path, profile="desk", ports=ServerPorts.automatic())
    settings.save()
    write_status(tmp_path, StackStatus(Identity.of(os.getpid()), [], time.time()))
    with pytest.raises(ConfigurationError, match="older version.*stack down"):
        up(settings, lambda _: None)


def test_a_profile_that_is_not_taken_up_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(lifecycle, "DOWN_TIMEOUT_S", 0.2)
    settings = StackSettings(home=tmp_path, profile="servers", ports=ServerPorts.automatic())
    settings.save()
    write_status(tmp_path, StackStatus(Identity.of(os.getpid()), [], time.time(), profile="servers"))
    with pytest.raises(ServiceUnavailable, match="another profile"):
        up(settings.model_copy(update={"profile": "full"}), lambda _: None)
    assert load(tmp_path).profile == "servers"


@pytest.mark.parametrize("text", ["rubbish", "[]", '{"ports": {"redis": "x"}}'])
def test_down_needs_no_settings_that_can_be_read(tmp_path, text, monkeypatch):
    (tmp_path / "stack.json").write_text(text)
    done = CliRunner().invoke(app, ["stack", "down"], env={"ULTRATHINK_HOME": str(tmp_path)})
    assert done.exit_code == 0, done.exception
    assert "nothing was running" in done.output


def test_down_ends_what_runs_though_systemd_cannot_be_asked(tmp_path, monkeypatch):
    running = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    identity = Identity.of(running.pid)
    orphans.note(tmp_path, "redis", orphans.Note(identity, "x"))

    def refuse(_):
        raise ServiceUnavailable("no bus")

    monkeypatch.setattr("stack.supervision.units.stop", refuse)
    done = CliRunner().invoke(app, ["stack", "down"], env={"ULTRATHINK_HOME": str(tmp_path)})
    assert identity.find() is None
    running.wait(10)
    assert isinstance(done.exception, ServiceUnavailable)
    assert "no bus" in str(done.exception)


def test_what_cannot_be_a_letter_is_no_end_of_the_status(tmp_path):
    odd = os.fsdecode(b"a log \xff")
    row = ServiceStatus("one", detail=odd, last_exit=odd, held=odd, degraded=[odd])
    write_status(tmp_path, StackStatus(Identity.of(os.getpid()), [row], time.time(), [odd]))
    assert "udcff" in read_status(tmp_path).problems[0]

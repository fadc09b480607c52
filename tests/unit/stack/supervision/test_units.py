"""Units of systemd: what its own checker says of them, and what stands where there is no systemd."""

from __future__ import annotations

import shutil

import pytest
from msgspec.structs import replace

from stack.servers.settings import StackSettings
from stack.supervision import units
from trading.errors import ConfigurationError, ServiceUnavailable


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("name", ["home", "with space", '100% "quoted" $HOME', "ü", "a\\b"])
def test_systemd_takes_the_unit_of_any_folder(tmp_path, system, name):
    made = units.unit(tmp_path / name, system=system, user="nobody")
    assert units.verify(made, tmp_path) == ""
    assert ("User=nobody" in made.text) == system


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_what_systemd_does_not_take_is_refused_in_its_words(tmp_path):
    made = units.unit(tmp_path, system=True)
    wrong = units.Unit(made.name, made.path, made.text.replace("ExecStart=", "ExecStart=/no/such/program "), False)
    assert "/no/such/program" in units.verify(wrong, tmp_path)


def test_folders_of_one_name_have_units_of_their_own(tmp_path):
    first, second = (units.unit(tmp_path / k / ".ultrathink", system=False) for k in "ab")
    assert first.name != second.name
    assert first.name.startswith("ultrathink-ultrathink-")


def test_a_name_that_would_end_a_line_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="give another --home"):
        units.unit(tmp_path / "a\nExecStartPre=rm", system=False)


def test_it_comes_back_however_it_ended_and_adopts_what_runs(tmp_path):
    lines = units.unit(tmp_path, system=True).text.splitlines()
    assert {"Restart=always", "KillMode=process", "StartLimitIntervalSec=0"} <= set(lines)


def test_without_systemd_it_says_what_to_put_where(tmp_path):
    told = "\n".join(units.elsewhere(StackSettings(home=tmp_path)))
    assert "@reboot" in told
    assert str(tmp_path) in told


def test_a_unit_that_is_not_there_is_not_taken_away(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert units.disable(units.unit(tmp_path, system=False)) is False


def test_only_what_ran_is_started_again(tmp_path, monkeypatch):
    """Of a desk's two units the user's is installed and idle: it must not come in place of the machine's."""
    told, program = tmp_path / "told", tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {told}\ncase "$*" in "--user is-active"*) exit 3;; *refused*) echo no >&2; exit 1;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr(units, "has_systemd", lambda: True)
    both = [replace(units.unit(tmp_path, system=system), path=tmp_path / f"{system}") for system in (False, True)]
    for made in both:
        made.path.touch()
    monkeypatch.setattr(units, "unit", lambda _, *, system: both[system])
    assert units.active(tmp_path) == [both[True]]
    assert units.stop(tmp_path) == [made.name for made in both]
    units.start([both[True]])
    assert told.read_text().splitlines()[-3:] == [
        f"--user stop {both[0].name}", f"stop {both[1].name}", f"start {both[1].name}",
    ]  # fmt: skip
    with pytest.raises(ServiceUnavailable, match="no"):
        units.start([replace(both[True], name="refused")])

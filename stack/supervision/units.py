"""systemd units that bring the desk back after a reboot, a logout, or the supervisor's own end."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from msgspec import Struct

from stack.servers.settings import StackSettings
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.files import write_atomically

RUN_S = 60.0


class Unit(Struct, frozen=True):
    """A unit, and where it belongs.

    Attributes:
        name: of the unit; one a home folder.
        path: of its file.
        text: of its file.
        is_user: whether a user's own systemd runs it, else the system's.
    """

    name: str
    path: Path
    text: str
    is_user: bool

    def systemctl(self, *words: str) -> list[str]:
        """A command line."""
        return ["systemctl", *(["--user"] if self.is_user else []), *words]


def unit(home: Path, *, system: bool, user: str = "") -> Unit:
    """The unit that supervises a home folder's stack.

    Args:
        home: of the stack, its whole path.
        system: for the machine's systemd, which starts it at boot; else for the user's own.
        user: the account that a system unit runs as; "" is the one that asks.

    Raises:
        ConfigurationError: the home folder's name cannot stand in a unit.
    """
    if re.search(r"[\x00-\x1f\x7f]", os.fspath(home)):
        raise ConfigurationError(f"{str(home)[:200]!r} has a character that no unit can hold: give another --home")
    # Two folders of one name have a unit each.
    name = f"ultrathink-{plain(home.name)}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:8]}.service"
    if system:
        path = Path("/etc/systemd/system") / name
    else:
        config = os.environ.get("XDG_CONFIG_HOME") or os.fspath(Path.home() / ".config")
        path = Path(config) / "systemd" / "user" / name
    account = user or os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
    return Unit(name, path, text(home, account if system and account != "root" else "", system=system), not system)


def text(home: Path, account: str, *, system: bool) -> str:
    """Of a unit's file; `account` is whose it runs as, "" for whoever runs systemd."""
    program = quoted(os.fspath(Path(sys.executable).parent / "ultrathink"))
    lines = [
        "# Made by `ultrathink stack enable`; `ultrathink stack disable` takes it away.",
        "[Unit]",
        f"Description=UltraThink Pilot in {escaped(os.fspath(home))}",
        *(["Wants=network-online.target", "After=network-online.target"] if system else []),
        # However often it fails, it is tried again.
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=exec",
        *([f"User={account}"] if account else []),
        f"ExecStart={program} --home {quoted(os.fspath(home))} stack run",
        "Environment=PYTHONUNBUFFERED=1 LC_ALL=C.UTF-8",
        "Restart=always",
        "RestartSec=2",
        # A supervisor that was killed is started again beside what it had started, and goes on with that.
        "KillMode=process",
        "TimeoutStopSec=180",
        "OOMPolicy=continue",
        "LimitNOFILE=65536",
        "",
        "[Install]",
        f"WantedBy={'multi-user.target' if system else 'default.target'}",
        "",
    ]
    return "\n".join(lines)


def plain(name: str) -> str:
    """What of a folder's name a unit's name can hold."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:100] or "home"


def escaped(text: str) -> str:
    """For a value of a unit: % begins a specifier there, and $ a variable."""
    return text.replace("%", "%%")


def quoted(text: str) -> str:
    """One word of a command line of systemd.service(5)."""
    for old, new in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        text = text.replace(old, new)
    return f'"{text}"'


def has_systemd() -> bool:
    """Whether systemd runs this machine; see sd_booted(3)."""
    return Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None


def verify(made: Unit, folder: Path) -> str:
    """What `systemd-analyze verify` says of a unit; "" where it says nothing, or is not there to ask.

    `folder` is a private one, where the unit is laid down to be looked at.
    """
    program = shutil.which("systemd-analyze")
    if program is None:
        return ""
    write_atomically(folder / made.name, made.text)
    command = [program, *(["--user"] if made.is_user else []), "--man=no", "verify", os.fspath(folder / made.name)]
    # It asks for the folder of a login, which there may be none of.
    around = {**os.environ, "XDG_RUNTIME_DIR": os.fspath(folder)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_S, env=around)
    return (done.stderr or done.stdout).strip() if done.returncode else ""


def enable(made: Unit) -> None:
    """Install a unit and start it, now and at every boot.

    Raises:
        ConfigurationError: its file cannot be written.
        ServiceUnavailable: systemd refuses.
    """
    try:
        write_atomically(made.path, made.text)
    except OSError as error:
        raise ConfigurationError(
            f"{made.path} cannot be written ({error.strerror}): run it as root, or without --system"
        ) from error
    for words in (("daemon-reload",), ("enable", "--now", made.name)):
        run(made.systemctl(*words))


def stop(home: Path) -> list[str]:
    """Stop the units of a home folder that are installed, until the next boot; returns their names.

    Raises ServiceUnavailable where systemd refuses.
    """
    found = installed(home)
    for made in found:
        run(made.systemctl("stop", made.name))
    return [made.name for made in found]


def start(some: list[Unit]) -> None:
    """Start units that were stopped; systemd does not wait for them. Raises ServiceUnavailable where it refuses."""
    for made in some:
        run(made.systemctl("start", made.name))


def active(home: Path) -> list[Unit]:
    """Units of a home folder that run."""
    return [
        made
        for made in installed(home)
        if subprocess.run(made.systemctl("is-active", "-q", made.name), check=False, timeout=RUN_S).returncode == 0
    ]


def installed(home: Path) -> list[Unit]:
    """Units of a home folder; none where there is no systemd."""
    if not has_systemd():
        return []
    return [made for system in (False, True) if (made := unit(home, system=system)).path.is_file()]


def disable(made: Unit) -> bool:
    """End a unit and take it away; false where there was none. Raises ServiceUnavailable where systemd refuses."""
    if not made.path.is_file():
        return False
    if has_systemd():
        run(made.systemctl("disable", "--now", made.name))
    made.path.unlink()
    if has_systemd():
        run(made.systemctl("daemon-reload"))
    return True


def run(command: list[str]) -> None:
    """A command of systemd's. Raises ServiceUnavailable with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=4 * RUN_S)
    if done.returncode != 0:
        raise ServiceUnavailable(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[:500]}")


def elsewhere(settings: StackSettings) -> list[str]:
    """What to put where, on a machine without systemd."""
    program, home = Path(sys.executable).parent / "ultrathink", settings.absolute_home
    line = f"'{program}' --home '{home}' stack"
    return [
        "this machine is not run by systemd. Instead, one of:",
        f"  cron (crontab -e), at boot:     @reboot {line} up",
        f"  and, should the supervisor die: * * * * * {line} up >/dev/null 2>&1    (twice is harmless)",
        f"  runit, s6, supervisord, rc:     {line} run    (stays in the foreground; SIGTERM ends it)",
        f"  a container:                    {line} run    as its command, with an init (docker run --init)",
    ]

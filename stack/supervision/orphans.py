"""What an earlier supervisor of this home folder left running: adopted where it is what is wanted now, else ended.

It is known by a note of each start, and by a mark in its environment, which most servers keep.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import signal
from collections.abc import Callable, Collection
from importlib.metadata import version
from pathlib import Path
from typing import IO

import psutil
from msgspec import Struct

from stack.servers.identity import Identity, end
from stack.servers.settings import StackSettings
from trading.encoding import Records, encode
from trading.errors import BadRecord
from trading.files import write_atomically

#: In the environment of whatever a supervisor starts, and so of what that starts: home folder and service.
MARK = "ULTRATHINK_SUPERVISED"
#: Its own name among them.
SUPERVISOR = "supervisor"
KILL_S = 5.0
#: Tells a supervisor which open file is the lock that was taken for it: no other can start in between.
LOCK = "ULTRATHINK_SUPERVISOR_LOCK"
#: Of what is marked, and was not noted.
STOP_S = 30.0


class Note(Struct, frozen=True):
    """A start: of which process, by which settings, and how it is asked to end."""

    process: Identity
    settings: str
    stop_signal: int = signal.SIGTERM
    stop_timeout_s: float = STOP_S


_notes = Records(Note)


def digest(settings: StackSettings) -> str:
    """What a process was started by: all settings but the profile, and this version of ours."""
    kept = settings.model_dump_json(exclude={"profile"})
    return hashlib.sha256(f"{version('ultrathink-pilot')} {kept}".encode()).hexdigest()


def marker(home: Path, name: str) -> dict[str, str]:
    """The variable that tells whose a process is."""
    return {MARK: f"{name}@{home}"}


def hold(home: Path) -> IO[str] | None:
    """Be the only supervisor of a home folder, while the file that is returned is open; None where another is."""
    (home / "run").mkdir(parents=True, exist_ok=True)
    if told := os.environ.pop(LOCK, ""):
        return os.fdopen(int(told), "w")
    file = (home / "run" / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def is_supervised(home: Path) -> bool:
    """Whether a supervisor of this home folder lives."""
    if not (home / "run" / "lock").is_file():
        return False
    if (held := hold(home)) is None:
        return True
    held.close()
    return False


def note(home: Path, name: str, started: Note) -> None:
    """Keep which process a service is, from its first moment on."""
    write_atomically(note_path(home, name), encode(started).decode())


def note_path(home: Path, name: str) -> Path:
    """Where a start is noted."""
    return home / "run" / "started" / f"{name}.json"


def noted(home: Path) -> dict[str, Note]:
    """Service -> its last start, of those that still run."""
    found = {}
    for path in note_path(home, "*").parent.glob("*.json"):
        with contextlib.suppress(OSError, BadRecord):
            one = _notes.read(path.read_bytes())
            if one.process.find() is not None:
                found[path.stem] = one
    return found


def adoptable(home: Path, names: Collection[str], settings: str) -> dict[str, Identity]:
    """Service -> its process, of those that run as these settings want them."""
    return {n: one.process for n, one in noted(home).items() if n in names and one.settings == settings}


def left_behind(home: Path) -> list[tuple[str, Identity]]:
    """Processes that a supervisor of this home folder started, by the name of their service, the oldest first.

    This process, and those that it stems from, are nobody's left-over.
    """
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = {one.process.pid: (name, one.process) for name, one in noted(home).items()}
    for process in psutil.process_iter():
        try:
            told, identity = process.environ().get(MARK, ""), Identity.of(process.pid)
        except (psutil.Error, OSError):
            # Somebody else's, and none of ours: we could read it otherwise.
            continue
        name, _, folder = told.partition("@")
        if folder == str(home) and process.status() != psutil.STATUS_ZOMBIE:
            found.setdefault(process.pid, (name, identity))
    return sorted((one for pid, one in found.items() if pid not in ours), key=lambda one: one[1].started_at)


def end_left_behind(home: Path, spared: Collection[str] = (), say: Callable[[str], None] = lambda _: None) -> int:
    """End them, those that came last first; returns how many there were. `say` is told of each.

    What leads a group is ended with it, as its service is; whatever else is left then is killed.

    Args:
        home: of the stack.
        spared: services that go on, with whatever they have started.
        say: told of each.
    """
    notes = noted(home)
    # What outlives a service, as `orchestrator/steps` do theirs, goes on where that does.
    found = [(name, one) for name, one in left_behind(home) if name.partition("/")[0] not in spared]
    for name, one in reversed(found):
        if one.find() is not None and group_of(one) == one.pid:
            say(f"{name} (pid {one.pid}) of an earlier start is ended")
            # As the one that started it would: PostgreSQL waits for its clients otherwise.
            known = notes.get(name, Note(one, ""))
            end(one, known.stop_signal, known.stop_timeout_s)
    left = [process for _, one in found if (process := one.find()) is not None]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    # One that is killed holds its ports until it is gone.
    psutil.wait_procs(left, KILL_S)
    return len(found)


def end_marked(home: Path, name: str) -> None:
    """Kill what is left of one service, whose leader is gone."""
    left = [found for who, one in left_behind(home) if who == name and (found := one.find()) is not None]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, KILL_S)


def group_of(process: Identity) -> int:
    """The group that a process is in; 0 where it is gone."""
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return 0

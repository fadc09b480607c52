"""Where a run of pytest keeps its files: in a folder of its own.

In the one that all runs share, each that begins makes it its owner's alone again, and a database that is not root's
sees its own files no more.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

#: Short: sockets lie in it, whose paths have 107 bytes at the most.
BEGINS = "ut-"
#: Of runs that are over; as many as pytest keeps.
KEPT = 2


def own_folder(where: Path | None = None) -> Path:
    """Make it, and remove those of runs that are over, but for the newest."""
    where = Path(tempfile.gettempdir()) if where is None else where
    forget_old(where)
    folder = where / f"{BEGINS}{os.getpid()}"
    try:
        folder.mkdir(mode=0o711)
    except FileExistsError:
        # Of somebody whose number this was.
        folder = Path(tempfile.mkdtemp(prefix=BEGINS, dir=where))
        folder.chmod(0o711)
    return folder


def forget_old(where: Path) -> None:
    """Nothing of a run that goes on, nor of another user's."""
    over = []
    for path in where.glob(f"{BEGINS}*"):
        number = path.name.removeprefix(BEGINS)
        with suppress(OSError):
            if number.isdigit() and not psutil.pid_exists(int(number)) and path.stat().st_uid == os.geteuid():
                over.append((path.stat().st_mtime, path))
    for _, path in sorted(over)[: -KEPT or None]:
        shutil.rmtree(path, ignore_errors=True)

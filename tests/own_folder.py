"""Where a run of pytest keeps its files: in a folder of its own.

In the one that all runs share, each that begins makes it its owner's alone again, and a database that is not root's
sees its own files no more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

#: Short: sockets lie in it, whose paths have 107 bytes at the most.
BEGINS = "ut-"
#: Held by its run for as long as that lasts, whatever its number is to whoever looks.
HELD = ".held"
#: Of runs that are over; as many as pytest keeps.
KEPT = 2
_held: list[IO[str]] = []


def own_folder(where: Path | None = None) -> Path:
    """Make it, and remove those of runs that are over, but for the newest."""
    where = Path(tempfile.gettempdir()) if where is None else where
    forget_old(where)
    folder = Path(tempfile.mkdtemp(prefix=BEGINS, dir=where))
    folder.chmod(0o711)
    held = (folder / HELD).open("w")
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _held.append(held)
    return folder


def forget_old(where: Path) -> None:
    """Nothing that a run holds, that bears no mark of one, or that is another user's."""
    over = []
    for mark in where.glob(f"{BEGINS}*/{HELD}"):
        with suppress(OSError), mark.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if mark.stat().st_uid == os.geteuid():
                over.append((mark.stat().st_mtime, mark.parent))
    for _, folder in sorted(over)[: -KEPT or None]:
        shutil.rmtree(folder, ignore_errors=True)

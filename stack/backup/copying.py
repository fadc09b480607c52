"""Trees copied with the hash of every byte; links are refused, and what is no file of a desk at rest is left."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from stack.backup.manifest import File
from trading.errors import ConfigurationError

CHUNK = 1 << 20
#: Of servers that run: of one that has ended it says what is not so.
PASSING = frozenset({"postmaster.pid", "postmaster.opts"})
#: What we write into a folder that is being made: only such a one is taken away again.
MARK = "ultrathink-unfinished"
#: Told bytes that were done.
Progress = Callable[[int], None]


def walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Folders, each before what it holds, and regular files, by name. Raises ConfigurationError for a link."""
    for path in sorted(folder.iterdir()):
        told = path.lstat()
        if stat.S_ISLNK(told.st_mode):
            raise ConfigurationError(
                f"{path} is a link, and what it leads to is not the desk's: put the file itself there"
            )
        if stat.S_ISDIR(told.st_mode):
            yield path, told
            yield from walk(path)
        elif stat.S_ISREG(told.st_mode) and path.name not in PASSING:
            yield path, told


def copy_file(source: Path, target: Path, mode: int, progress: Progress) -> File:
    """A file with its hash, made with its permissions from the first byte on. Raises OSError."""
    whole, size = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode & 0o777)
    with os.fdopen(descriptor, "wb") as written, source.open("rb") as file:
        os.fchmod(descriptor, mode & 0o777)
        while chunk := file.read(CHUNK):
            written.write(chunk)
            whole.update(chunk)
            size += len(chunk)
            progress(len(chunk))
    return File(size, whole.hexdigest(), mode & 0o777)


def hashed(source: Path, mode: int, progress: Progress) -> File:
    """The same of a file that stays where it is."""
    whole, size = hashlib.sha256(), 0
    with source.open("rb") as file:
        while chunk := file.read(CHUNK):
            whole.update(chunk)
            size += len(chunk)
            progress(len(chunk))
    return File(size, whole.hexdigest(), mode & 0o777)


def begin(folder: Path) -> None:
    """Make a folder in which something is put together; one that was left unfinished is taken away before.

    Raises:
        ConfigurationError: something else lies there, or it cannot be made.
    """
    try:
        if folder.is_dir() and not folder.is_symlink() and (folder / MARK).is_file():
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        (folder / MARK).touch()
    except FileExistsError as error:
        raise ConfigurationError(f"{folder} is in the way, and is not ours: move it away") from error
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be made ({error.strerror}): name another folder") from error


def finish(folder: Path, target: Path) -> None:
    """What was put together appears whole. Raises OSError where something has appeared there meanwhile."""
    (folder / MARK).unlink()
    # All that was written, before the name that says that it is whole.
    os.sync()
    folder.rename(target)


def is_free(target: Path) -> bool:
    """Whether nothing lies there, or an empty folder."""
    if target.is_symlink():
        return False
    return not target.exists() or (target.is_dir() and not any(target.iterdir()))

"""Trees copied with the hash of every byte; links are refused, and what is no file of a desk at rest is left."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from stack.backup.manifest import File
from stack.servers.settings import free_disk_mb
from trading.errors import ConfigurationError
from trading.files import sync

CHUNK = MB = 1 << 20
#: Of servers that run: of one that has ended it says what is not so.
PASSING = frozenset({"postmaster.pid", "postmaster.opts"})
#: What we write into a folder that is being made: only such a one is taken away again.
MARK = "ultrathink-unfinished"
#: Told bytes that were done.
Progress = Callable[[int], None]


def walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Folders, each before what it holds, and regular files, by name. Raises ConfigurationError for a link."""
    for path in sorted(present(folder)):
        plain(path)
        try:
            told = path.lstat()
        except FileNotFoundError:
            # Of a desk that still runs, which is looked at before it is ended.
            continue
        if stat.S_ISLNK(told.st_mode):
            raise ConfigurationError(
                f"{path} is a link, and what it leads to is not the desk's: put the file itself there"
            )
        if stat.S_ISDIR(told.st_mode):
            yield path, told
            yield from walk(path)
        elif stat.S_ISREG(told.st_mode) and path.name not in PASSING:
            yield path, told


def present(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where it has gone meanwhile."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def plain(path: Path) -> None:
    """Raise ConfigurationError for a name that no manifest can hold."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{os.fspath(path)!r} is no text in UTF-8: give the file another name") from error


def opened(source: Path) -> BinaryIO:
    """A file to read, and no link that was put in its place. Raises ConfigurationError where it cannot be read."""
    try:
        return os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    except OSError as error:
        raise ConfigurationError(
            f"{source} cannot be read: {error.strerror}; does something still write there?"
        ) from error


def copy_file(source: Path, target: Path, mode: int, progress: Progress) -> File:
    """A file with its hash, made with its permissions from the first byte on. Raises OSError."""
    whole, size = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode & 0o777)
    with os.fdopen(descriptor, "wb") as written, opened(source) as file:
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
    with opened(source) as file:
        while chunk := file.read(CHUNK):
            whole.update(chunk)
            size += len(chunk)
            progress(len(chunk))
    return File(size, whole.hexdigest(), mode & 0o777)


@contextlib.contextmanager
def begun(folder: Path) -> Iterator[None]:
    """Make a folder in which something is put together, and take away what is left of it at the end.

    One that was left unfinished is taken away before, unless whoever makes it lives.

    Raises:
        ConfigurationError: something else lies there, somebody is at work there, or it cannot be made.
    """
    with held(folder):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                clear(folder)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder, made anew, with a mark that is locked while it is ours."""
    try:
        if folder.is_dir() and not folder.is_symlink() and (folder / MARK).is_file():
            with (folder / MARK).open() as mark:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
                clear(folder)
        elif folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            # Made, and its maker killed before he had marked it.
            folder.rmdir()
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        mark = (folder / MARK).open("x")
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(mark.fileno()), (folder / MARK).stat()):
            raise BlockingIOError
    except BlockingIOError as error:
        raise ConfigurationError(f"somebody else is at work in {folder}: wait for its end") from error
    except FileExistsError as error:
        raise ConfigurationError(f"{folder} is in the way, and is not ours: move it away") from error
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be made ({error.strerror}): name another folder") from error
    with mark:
        yield


def clear(folder: Path) -> None:
    """Delete a folder that is being made, its mark last, so that it can be told for ours. Raises OSError."""

    def writable(delete: Callable[..., object], path: str, _: object) -> None:
        Path(path).parent.chmod(0o700)
        Path(path).chmod(0o700)
        if delete in {os.unlink, os.rmdir}:
            delete(path)
        else:
            # It could not be looked into.
            shutil.rmtree(path)

    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, onerror=writable)
        elif path.name != MARK:
            path.unlink()
    (folder / MARK).unlink(missing_ok=True)
    folder.rmdir()


def finish(folder: Path, target: Path) -> None:
    """What was put together appears whole. Raises OSError where something has appeared there meanwhile."""
    # All that was written, before the name that says that it is whole.
    os.sync()
    folder.rename(target)
    (target / MARK).unlink()
    sync(target.parent)


def place(target: Path, needed: int, reserve_mb: int) -> Path:
    """Where a folder is put together, beside what it becomes. Raises ConfigurationError where there is no room.

    Args:
        target: what it becomes.
        needed: bytes.
        reserve_mb: which must be left.
    """
    if target.is_mount():
        raise ConfigurationError(f"{target} is where a disk is mounted: name a folder in it")
    free = free_disk_mb(target.parent)
    if free < needed // MB + reserve_mb:
        raise ConfigurationError(
            f"{target} would take {needed // MB} MB, and its disk has {free} MB left, of which {reserve_mb} MB are "
            "kept free: name a folder on another disk"
        )
    return target.parent / f".{target.name}.unfinished"


def is_free(target: Path) -> bool:
    """Whether nothing lies there, or an empty folder."""
    if target.is_symlink():
        return False
    return not target.exists() or (target.is_dir() and not any(target.iterdir()))

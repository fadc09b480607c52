"""What we made in a home folder, by a record of its own: the folder may be anybody's, and so may its names."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct

from trading.encoding import Records, encode
from trading.errors import BadRecord, ConfigurationError
from trading.files import write_atomically

RECORD = ".ultrathink-made.json"


SECRET = re.compile(
    r"redis|gateway-admin|postgres(-[a-z]+)?|mlflow[a-z-]*|kafka-[a-z]+|forensics-signing-key(\.pub)?|"
    r"data-token(s\.json)?|stack-token|orchestrator-token|torchserve-(inference|management)"
)
CHECKPOINTS = re.compile(r"checkpoints-[0-9-]+\.jsonl|signing-key\.pub")
ARCHIVED = {"head.json", ".lock", "chunks", "states", "days"}
#: How a stack's folders are known by what lies in them; what people have under these names looks otherwise.
RECOGNISED: dict[str, Callable[[set[str]], bool]] = {
    "kafka": lambda names: bool(names) and names <= {"1", "2", "3"},
    "redis": lambda names: "server.conf" in names,
    "postgres": lambda names: "PG_VERSION" in names,
    "mlflow": lambda names: names == {"artifacts"},
    "triton": lambda names: "backends" in names,
    "torchserve": lambda names: "config.properties" in names,
    "prometheus": lambda names: names <= {"prometheus.yml", "data", "wal", "chunks_head", "queries.active", "lock"},
    "logs": lambda names: "supervisor.log" in names,
    "trail": lambda names: bool(names) and all(CHECKPOINTS.fullmatch(name) for name in names),
    "archive": lambda names: "head.json" in names and names <= ARCHIVED,
    "run": lambda names: names <= {"status.json"},
    "experiments": lambda names: bool(names) and all(name.endswith((".checkpoint", ".written")) for name in names),
    "orchestrator": lambda names: names == {"logs"},
    "secrets": lambda names: bool(names) and all(SECRET.fullmatch(name) for name in names),
}


class Made(Struct, frozen=True):
    """The record: name of a folder -> its device and inode, so that another of that name is not taken for it."""

    folders: dict[str, tuple[int, int]]


_made = Records(Made)


def claim(home: Path, names: Iterable[str], *, alone: bool) -> None:
    """Make folders in a home folder, and note those that were not there, or were empty, as ours.

    Args:
        home: made too where it is missing.
        names: of the folders.
        alone: whether what somebody else has put into one of them is refused; else it is used and stays theirs.

    Raises:
        ConfigurationError: a folder is somebody else's, or cannot be made; nothing was noted.
    """
    known, found = made(home), dict(made(home))
    for name in names:
        folder = home / name
        try:
            theirs = folder.is_symlink() or (folder.exists() and name not in known and any(folder.iterdir()))
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{folder} cannot be made ({error.strerror}): give another --home") from error
        if not theirs:
            found[name] = identity(folder)
        elif alone:
            raise ConfigurationError(
                f"{folder} was not made by a stack, and holds something: give the stack an empty --home of its own"
            )
    if found != known:
        write_atomically(home / RECORD, encode(Made(found)).decode())


def adopt(home: Path) -> None:
    """In a home folder of before there was a record, note what can only be a stack's: by what lies in it."""
    if (home / RECORD).exists():
        return
    found = {}
    for name, is_ours in RECOGNISED.items():
        folder = home / name
        if folder.is_dir() and not folder.is_symlink() and is_ours({p.name for p in folder.iterdir()}):
            found[name] = identity(folder)
    if found:
        write_atomically(home / RECORD, encode(Made(found)).decode())


def made(home: Path) -> dict[str, tuple[int, int]]:
    """The folders that we made here and that are still the same ones."""
    try:
        noted = _made.read((home / RECORD).read_bytes()).folders
    except (OSError, BadRecord):
        return {}
    return {
        name: at
        for name, at in noted.items()
        # Of our own record too, nothing is used as a path that is not a plain name.
        if name == Path(name).name not in {"", ".", ".."}
        and not (home / name).is_symlink()
        and (home / name).is_dir()
        and identity(home / name) == at
    }


def delete(home: Path) -> list[str]:
    """Delete the folders that we made; returns the names that are left beside the record."""
    for name in made(home):
        shutil.rmtree(home / name, ignore_errors=True)
    return sorted(path.name for path in home.iterdir() if path.name != RECORD) if home.is_dir() else []


def disown(home: Path) -> None:
    """Note that what is left is nobody's of ours: without a record it could be taken for ours."""
    write_atomically(home / RECORD, encode(Made({})).decode())


def identity(folder: Path) -> tuple[int, int]:
    """Device and inode."""
    told = folder.stat()
    return told.st_dev, told.st_ino

"""`stack backup`: the home folder of a desk that is down, file by file, into a folder that appears whole."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from exporters.repository.state import state_folder
from stack.backup.copying import begin, copy_file, finish, is_free, walk
from stack.backup.manifest import FORMAT, JOURNAL, MODELS, PARTS, SETTINGS, Backup, File, write
from stack.servers.settings import STORED, StackSettings, free_disk_mb
from stack.supervision.lifecycle import starting_alone
from stack.supervision.orphans import hold, left_behind
from trading.errors import ConfigurationError

MB = 1 << 20
#: Told bytes that are done and bytes in all.
Told = Callable[[int, int], None]


def take(settings: StackSettings, target: Path, told: Told = lambda _, __: None) -> Backup:
    """Back a desk up.

    Args:
        settings: of the desk, which is down.
        target: the folder to make.
        told: progress.

    Raises:
        ConfigurationError: the desk runs, the folder holds something, there is no room, or a file is a link.
    """
    home, target = settings.absolute_home, check_target(settings, target)
    # Nobody starts it meanwhile.
    with starting_alone(home):
        lock = hold(home)
        if lock is None or left_behind(home):
            raise ConfigurationError(
                f"the desk in {home} runs, and its files change: `ultrathink stack down` first, or give --stop"
            )
        with lock:
            return taken(settings, target, told)


def check_target(settings: StackSettings, target: Path) -> Path:
    """The folder to make, by its whole path. Raises ConfigurationError where a backup cannot be put there."""
    home, target = settings.absolute_home, target.expanduser().resolve()
    if target == home or home in target.parents:
        raise ConfigurationError(f"{target} lies in the desk's own folder, and would be lost with it: name another")
    if not is_free(target):
        raise ConfigurationError(f"{target} is not empty: name a folder that is not there yet")
    return target


def taken(settings: StackSettings, target: Path, told: Told) -> Backup:
    """The backup of a desk at rest."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    sources = parts(settings)
    found = list(listed(sources))
    total = sum(stated.st_size for _, _, stated in found if stat.S_ISREG(stated.st_mode))
    if (free := free_disk_mb(target)) < total // MB + settings.least_disk_mb:
        raise ConfigurationError(
            f"{target} would take {total // MB} MB, and its disk has {free} MB left, of which "
            f"{settings.least_disk_mb} MB are kept free: name a folder on another disk"
        )
    staging, done = target.parent / f".{target.name}.unfinished", 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        told(done, total)

    begin(staging)
    try:
        folders, files = dict[str, int](), dict[str, File]()
        for name, path, stated in found:
            mode = stat.S_IMODE(stated.st_mode)
            if stat.S_ISDIR(stated.st_mode):
                (staging / name).mkdir(mode=0o700)
                folders[name] = mode
            else:
                files[name] = copy_file(path, staging / name, mode, more)
        backup = Backup(FORMAT, at, version("ultrathink-pilot"), os.fspath(settings.absolute_home), folders, files)
        write(staging, backup)
        finish(staging, target)
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written: {error.strerror}; nothing is left of it") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return backup


def parts(settings: StackSettings) -> dict[str, Path]:
    """Name in a backup -> where it lies; those that are there."""
    home, models = settings.absolute_home, settings.model_repository.expanduser().resolve()
    found = {name: home / name for name in PARTS} | {
        MODELS: models,
        JOURNAL: state_folder(models),
        SETTINGS: home / STORED,
    }
    return {name: path for name, path in found.items() if path.exists()}


def listed(sources: dict[str, Path]) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Name in the backup, place, and what it is."""
    for name, source in sources.items():
        yield name, source, source.stat()
        if source.is_dir():
            for path, stated in walk(source):
                yield f"{name}/{path.relative_to(source)}", path, stated

"""`stack backup`: the home folder of a desk that is down, file by file, into a folder that appears whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct

from exporters.repository.repository import ModelRepository
from exporters.repository.state import state_folder
from stack.backup.copying import begun, copy_file, finish, is_free, place, walk
from stack.backup.manifest import (
    EXPERIMENTS,
    FORMAT,
    JOURNAL,
    MODELS,
    PARTS,
    SETTINGS,
    TORCHSERVE_JOURNAL,
    TORCHSERVE_MODELS,
    Backup,
    File,
    write,
)
from stack.servers.settings import STORED, StackSettings
from stack.supervision.lifecycle import starting_alone
from stack.supervision.orphans import hold, left_behind
from trading.errors import ConfigurationError

#: Told bytes that are done and bytes in all.
Told = Callable[[int, int], None]


class Plan(Struct, frozen=True):
    """What would be copied where.

    Attributes:
        target: the folder to make.
        staging: where it is put together.
        found: name in the backup, place, and what it is; folders before what they hold.
        total: bytes.
    """

    target: Path
    staging: Path
    found: list[tuple[str, Path, os.stat_result]]
    total: int


def plan(settings: StackSettings, target: Path) -> Plan:
    """What would be copied: before a desk is ended for it, and again at rest.

    Raises:
        ConfigurationError: the folder holds something, or lies in what is backed up; there is no room; a part is
            missing; or a file is a link.
    """
    target, sources = target.expanduser().resolve(), parts(settings)
    for source in (settings.absolute_home, *sources.values()):
        if target == source or source in target.parents:
            raise ConfigurationError(f"{target} lies in {source}, which is backed up: name a folder elsewhere")
    if not is_free(target):
        raise ConfigurationError(f"{target} is not empty: name a folder that is not there yet")
    found = list(listed(sources))
    total = sum(stated.st_size for _, _, stated in found if stat.S_ISREG(stated.st_mode))
    return Plan(target, place(target, total, settings.least_disk_mb), found, total)


def take(settings: StackSettings, target: Path, told: Told = lambda _, __: None) -> Backup:
    """Back a desk up.

    Args:
        settings: of the desk, which is down.
        target: the folder to make.
        told: progress.

    Raises:
        ConfigurationError: as `plan`; or the desk runs.
        Busy: somebody exports a model.
    """
    home = settings.absolute_home
    plan(settings, target)
    repository, torchserve = (
        ModelRepository(one) for one in (settings.model_repository, settings.torchserve_repository)
    )
    others = torchserve.lock(*names) if (names := torchserve.names()) else nullcontext()
    # Nobody starts it meanwhile, and nobody publishes a model.
    with starting_alone(home), repository.lock(*repository.names()), others:
        lock = hold(home)
        if lock is None or left_behind(home):
            raise ConfigurationError(
                f"the desk in {home} runs, and its files change: `ultrathink stack down` first, or give --stop"
            )
        with lock:
            return taken(settings, plan(settings, target), told)


def taken(settings: StackSettings, planned: Plan, told: Told) -> Backup:
    """The backup of a desk at rest."""
    at, target = datetime.now(UTC).isoformat(timespec="seconds"), planned.target
    staging, done = planned.staging, 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        told(done, planned.total)

    try:
        with begun(staging):
            folders, files = dict[str, int](), dict[str, File]()
            for name, path, stated in planned.found:
                mode = stat.S_IMODE(stated.st_mode)
                if stat.S_ISDIR(stated.st_mode):
                    (staging / name).mkdir(mode=0o700)
                    folders[name] = mode
                else:
                    files[name] = copy_file(path, staging / name, mode, more)
            home = os.fspath(settings.absolute_home)
            backup = Backup(FORMAT, at, version("ultrathink-pilot"), home, folders, files)
            write(staging, backup)
            finish(staging, target)
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written: {error.strerror}; nothing is left of it") from error
    return backup


def parts(settings: StackSettings) -> dict[str, Path]:
    """Name in a backup -> where it lies. Raises ConfigurationError where one is missing, or is a link."""
    home, models = settings.absolute_home, settings.model_repository.expanduser().resolve()
    found = {name: home / name for name in PARTS} | {MODELS: models, SETTINGS: home / STORED}
    for name, path in found.items():
        if path.is_symlink():
            raise ConfigurationError(
                f"{path} is a link: a backup holds what is the desk's own; put the folder there"
            )
        if not path.exists():
            raise ConfigurationError(f"{path} is missing, and a backup without {name} brings no desk back")
    # Of a repository into which nothing was ever exported there is none.
    torchserve = settings.torchserve_repository.expanduser().resolve()
    # Of a desk that watched no experiment neither; and what TorchServe serves is made of its own repository.
    more = {
        JOURNAL: state_folder(models),
        EXPERIMENTS: home / EXPERIMENTS,
        TORCHSERVE_MODELS: torchserve,
        TORCHSERVE_JOURNAL: state_folder(torchserve),
    }
    return found | {name: path for name, path in more.items() if path.is_dir() and not path.is_symlink()}


def listed(sources: dict[str, Path]) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Name in the backup, place, and what it is."""
    for name, source in sources.items():
        yield name, source, source.stat()
        if source.is_dir():
            for path, stated in walk(source):
                yield f"{name}/{path.relative_to(source)}", path, stated

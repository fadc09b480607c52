"""`stack restore`: a backup verified byte for byte, and made a home folder where there is none."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from exporters.repository.state import state_folder
from stack.backup import copying, manifest
from stack.backup.copying import MARK, begun, copy_file, finish, hashed, is_free, walk
from stack.backup.manifest import (
    JOURNAL,
    MANIFEST,
    MODELS,
    SETTINGS,
    TORCHSERVE_JOURNAL,
    TORCHSERVE_MODELS,
    Backup,
    File,
)
from stack.servers import postgres
from stack.servers.settings import REPOSITORY, STORED, TORCHSERVE_REPOSITORY, StackSettings, stored
from stack.supervision.lifecycle import starting_alone
from stack.supervision.ownership import claim
from trading.errors import ConfigurationError

#: Kept free, as a desk wants it that has not said otherwise.
RESERVE_MB = int(StackSettings.model_fields["least_disk_mb"].default)
#: Where the models of a restored desk lie, in its home folder.
Told = Callable[[int, int], None]


def verify(folder: Path, told: Told = lambda _, __: None) -> Backup:
    """Every file of a backup is what it was, none is missing, and none was put there.

    Raises:
        ConfigurationError: with the first file that is not.
    """
    backup = manifest.read(folder)
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        told(done, backup.bytes)

    for name, path, mode in content(folder, backup):
        if not stat.S_ISDIR(mode):
            same(name, hashed(path, backup.files[name].mode, more), backup.files[name], folder)
    return backup


def restore(folder: Path, home: Path, told: Told = lambda _, __: None) -> StackSettings:
    """Make a home folder of a backup.

    Args:
        folder: of the backup.
        home: the home folder to make; there is none, or it is empty.
        told: progress, in bytes.

    Returns:
        The settings of the desk, as `stack up` finds them now.

    Raises:
        ConfigurationError: the folder is no backup, was changed, or has no room there; or the home is not empty.
            Nothing is left of it then.
    """
    folder, home = folder.expanduser().resolve(), home.expanduser().resolve()
    backup = manifest.read(folder)
    if not is_free(home):
        raise ConfigurationError(
            f"{home} is not empty: a desk is restored where there is none; give another --home"
        )
    staging = copying.place(home, backup.bytes, RESERVE_MB)
    try:
        with starting_alone(home), begun(staging):
            fill(staging, folder, backup, told)
            settings = settle(staging, home)
            finish(staging, home)
    except OSError as error:
        raise ConfigurationError(f"{home} cannot be written: {error.strerror}; nothing is left of it") from error
    return settings


def fill(staging: Path, folder: Path, backup: Backup, told: Told) -> None:
    """Copy every file, and hold it against its hash as it is copied."""
    done, modes = 0, dict[Path, int]()

    def more(count: int) -> None:
        nonlocal done
        done += count
        told(done, backup.bytes)

    parts = [name for name in backup.folders if "/" not in name]
    # Noted as ours while they are empty, so that a purge takes them away.
    claim(staging, [place(name) for name in parts], alone=True)
    for name, path, mode in content(folder, backup):
        target = staging / place(name)
        if stat.S_ISDIR(mode):
            target.mkdir(mode=0o700, exist_ok=True)
            modes[target] = backup.folders[name]
        else:
            same(name, copy_file(path, target, backup.files[name].mode, more), backup.files[name], folder)
    for target, mode in modes.items():
        target.chmod(mode & 0o777)


def settle(staging: Path, home: Path) -> StackSettings:
    """The settings of a desk that lives there now. Raises ConfigurationError where they are none."""
    if (data := staging / "postgres").is_dir():
        postgres.give(data)
    found = stored(staging)
    settings = found.model_copy(
        update={
            "home": staging,
            "model_repository": home / REPOSITORY,
            "torchserve_repository": home / TORCHSERVE_REPOSITORY,
        }
    )
    settings.save()
    return settings.model_copy(update={"home": home})


def place(name: str) -> str:
    """Where in a home folder what has a name in a backup lies."""
    part, slash, rest = name.partition("/")
    there = {
        MODELS: REPOSITORY, JOURNAL: state_folder(Path("/", REPOSITORY)).name, SETTINGS: STORED,
        TORCHSERVE_MODELS: TORCHSERVE_REPOSITORY,
        TORCHSERVE_JOURNAL: state_folder(Path("/", TORCHSERVE_REPOSITORY)).name,
    }.get(part, part)  # fmt: skip
    return f"{there}{slash}{rest}"


def content(folder: Path, backup: Backup) -> list[tuple[str, Path, int]]:
    """Name, place and kind of all that lies in a backup, folders before what they hold.

    What the manifest says is never used as a path: its names are looked up among those that are there.

    Raises:
        ConfigurationError: something is missing, or is not in the manifest.
    """
    found = [
        (os.fspath(path.relative_to(folder)), path, stated.st_mode)
        for path, stated in walk(folder)
        # The mark of one that was whole, and whose maker was killed before he could take it away.
        if path not in {folder / MANIFEST, folder / MARK}
    ]
    there = {name for name, _, _ in found}
    if missing := sorted((backup.files.keys() | backup.folders.keys()) - there):
        raise ConfigurationError(f"{missing[0]!r} is missing in {folder}: use another backup")
    if added := sorted(there - backup.files.keys() - backup.folders.keys()):
        raise ConfigurationError(f"{added[0]!r} was put into {folder} afterwards: use another backup")
    for name, path, mode in found:
        if stat.S_ISDIR(mode) != (name in backup.folders):
            raise ConfigurationError(f"{path} is another kind of thing than it was: use another backup")
    return found


def same(name: str, found: File, wanted: File, folder: Path) -> None:
    """Raise ConfigurationError where a file is not what it was."""
    if found != wanted:
        raise ConfigurationError(f"{name!r} in {folder} is not what it was: use another backup")


def elsewhere(settings: StackSettings, before: Path) -> list[str]:
    """Variables of the desk that name a file which is not here, or is the other desk's, for people.

    A kill file is one that is not there until somebody kills.

    Args:
        settings: of the restored desk.
        before: home folder of the one that was backed up.
    """
    from stack.processes.environment import KINDS, PATHS, variables

    paths = {
        v for kind in KINDS for v, name in variables(kind).items() if kind.model_fields[name].annotation in PATHS
    }
    found = []
    for variable, value in settings.desk.items():
        if variable not in paths or not value:
            continue
        if before in Path(value).parents:
            found.append(f"{variable} is {value}, in the folder of the desk that was backed up: set another")
        elif not variable.endswith("KILL_FILE") and not Path(value).exists():
            found.append(f"{variable} is {value}, which is not there")
    return found

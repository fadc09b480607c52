"""A disk of the drill's own, in a file: it can be filled without harm to anybody. Needs the right to mount."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GB = 1 << 30
SIZE_GB = 14


@contextmanager
def own_disk(folder: Path) -> Iterator[Path | None]:
    """Where it is mounted, below a folder; None where this user may not mount."""
    image, place = folder / "disk.img", folder / "disk"
    place.mkdir(parents=True)
    try:
        may = os.geteuid() == 0 and shutil.which("mkfs.ext4") is not None
        yield place if may and mount(image, place) else None
    finally:
        if place.is_mount():
            # Whoever still holds a file of it is on the way out.
            ran("umount", "--lazy", os.fspath(place))
        image.unlink(missing_ok=True)


def mount(image: Path, place: Path) -> bool:
    """Whether a file system in a new file could be made and mounted."""
    with image.open("wb") as file:
        file.truncate(SIZE_GB * GB)
    return ran("mkfs.ext4", "-q", os.fspath(image)) and ran(
        "mount", "-o", "loop", os.fspath(image), os.fspath(place)
    )


def ran(*words: str) -> bool:
    """Whether a command ended well."""
    return subprocess.run(words, capture_output=True, check=False).returncode == 0

"""What a model may be called, and which number a version gets: none that one has or had, since it may be pinned."""

from __future__ import annotations

import re
from pathlib import Path

from exporters.errors import ExportError
from exporters.repository.files import replace_text

#: As `sources.references.served_name` makes them, and a candidate's.
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")
#: As Triton reads a version's folder: what follows the digits does not count.
NUMBER = re.compile(r"\s*[+-]?[0-9]{1,18}(?![0-9])")


def model_name(name: str) -> str:
    """A name that is a folder's, and cannot lead out of the repository. Raises ExportError for others."""
    if not MODEL_NAME.fullmatch(name):
        raise ExportError(f"{name!r} is no model's name: use letters, digits, _ . and -")
    return name


def numbers(names: list[str]) -> list[int]:
    """Those that are versions' numbers, ascending."""
    found = (NUMBER.match(name) for name in names)
    return sorted({int(one.group()) for one in found if one})


class RemovedVersions:
    """The largest number of each model that was ever taken out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def largest(self, name: str) -> int:
        """0 where none was."""
        try:
            return int((self._folder / name).read_text())
        except (OSError, ValueError):
            return 0

    def note(self, name: str, version: int) -> None:
        """Before it is taken out."""
        if version > self.largest(name):
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_text(self._folder / name, str(version))

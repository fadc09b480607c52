"""Files of a repository: replaced whole, compared, hashed, synced."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from exporters.errors import ExportError
from exporters.formats.config_pbtxt import warm_up_file
from trading.files import replace_file, sync
from trading.models.signature import ModelSignature


def warm_up(signature: ModelSignature) -> dict[str, bytes]:
    """One real row an input, as raw bytes, by file."""
    # What makes rows compiles features: who only reads a repository need not wait for that.
    from exporters import probes

    rows = probes.golden(signature, 1)
    return {warm_up_file(t): np.ascontiguousarray(a).tobytes() for t, a in zip(signature.inputs, rows, strict=True)}


def write_warm_up(folder: Path, signature: ModelSignature, *, refresh: bool) -> None:
    """A file an input; see `configure`."""
    wanted = warm_up(signature)
    if not refresh and all(
        (folder / name).is_file() and (folder / name).stat().st_size == len(v) for name, v in wanted.items()
    ):
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in wanted.items():
        replace_bytes(folder / name, content)


def same(path: Path, content: bytes) -> bool:
    """Whether a file holds exactly this."""
    return path.is_file() and path.read_bytes() == content


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def changed(folder: Path, hashes: Mapping[str, str]) -> str | None:
    """The first file of a folder that is gone, or whose SHA-256 is another; None where all are as they were.

    What a file says is not used as a path: a name is looked up among those that are there.

    Raises:
        ExportError: the folder, or one of them, cannot be read.
    """
    try:
        there = {path.name: sha256(path) for path in folder.iterdir() if path.name in hashes}
    except OSError as error:
        raise ExportError(f"{folder} cannot be read: {error}") from error
    return next((file for file, wanted in hashes.items() if there.get(file) != wanted), None)


def replace_text(path: Path, text: str) -> None:
    """Replace a file whole, only where its text changes."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Replace a file whole, only where its content changes."""
    if same(path, content):
        return
    replace_file(path, content)
    sync(path.parent)


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")

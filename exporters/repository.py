"""The model repository on disk: versions appear whole, or not at all, and are never replaced.

A version is staged outside the repository, on the same file system, because Triton takes every
folder whose name begins with digits ("2.tmp" is version 2) for a version.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from exporters.config_pbtxt import pinned_steps, render
from exporters.errors import ExportError
from gateway.domain.signature import MODELS, ModelSignature


class ModelRepository:
    """A folder that Triton serves from."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.staging = self.root.parent / f".{self.root.name}.staging"

    def versions(self, name: str) -> list[int]:
        """Published versions, ascending."""
        folder = self.root / name
        if not folder.is_dir():
            return []
        return sorted(int(p.name) for p in folder.iterdir() if p.is_dir() and p.name.isdigit())

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Path]:
        """A folder to write a version into; removed unless it was published. One exporter a model.

        Raises:
            ExportError: the folder cannot be written, or another exporter holds the model.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.staging.mkdir(parents=True, exist_ok=True)
            lock = (self.staging / f"{name}.lock").open("a")
        except OSError as error:
            raise ExportError(f"{self.root} cannot be written: {error.strerror}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ExportError(f"another exporter is publishing {name} into {self.root}") from error
            folder = self.staging / f"{name}-{secrets.token_hex(4)}"
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def publish(self, name: str, staged: Path, lineage: Mapping[str, object]) -> int:
        """Give the staged folder the next number; call inside `stage`.

        The lineage lies inside the version's folder: a newer file beside config.pbtxt would make
        every version look modified to Triton.
        """
        version = max(self.versions(name), default=0) + 1
        hashes = {p.name: sha256(p) for p in sorted(staged.iterdir())}
        text = json.dumps({"version": version, "files": hashes, **lineage}, indent=2)
        (staged / "lineage.json").write_text(text)
        for path in staged.iterdir():
            sync(path)
        sync(staged)
        target = self.root / name / str(version)
        target.parent.mkdir(exist_ok=True)
        staged.rename(target)
        sync(target.parent)
        return version

    def lineage(self, name: str, version: int) -> dict[str, object]:
        """What was recorded when the version was published."""
        path = self.root / name / str(version) / "lineage.json"
        try:
            found: dict[str, object] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ExportError(f"{path} cannot be read: {error}") from error
        return found

    def write_configs(self, signature: ModelSignature, step_versions: Mapping[str, int]) -> None:
        """config.pbtxt for the GPU and configs/cpu.pbtxt; untouched where they are right already."""
        folder = self.root / signature.name
        (folder / "configs").mkdir(parents=True, exist_ok=True)
        replace_text(folder / "configs" / "cpu.pbtxt", render(signature, "cpu", step_versions))
        replace_text(folder / "config.pbtxt", render(signature, "gpu", step_versions))

    def stale_configs(self) -> list[Path]:
        """Configuration files that differ from what their signature generates."""
        stale = []
        for signature in MODELS.values():
            path = self.root / signature.name / "config.pbtxt"
            pinned = pinned_steps(path.read_text()) if path.is_file() else dict.fromkeys(signature.steps, 1)
            for file, device in ((path, "gpu"), (path.parent / "configs" / "cpu.pbtxt", "cpu")):
                wanted = render(signature, "gpu" if device == "gpu" else "cpu", pinned)
                if not file.is_file() or file.read_text() != wanted:
                    stale.append(file)
        return stale


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Fsync a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Replace a file whole, only where its text changes."""
    if path.is_file() and path.read_text() == text:
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.write_text(text)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)

"""The model repository on disk: versions appear whole, or not at all, and are never replaced.

A version is staged outside the repository, on the same file system, because Triton takes every folder whose name
begins with digits ("2.tmp" is version 2) for a version: in `.models.ultrathink` beside `models`, with the journal.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import socket
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from exporters.errors import Busy, ExportError
from exporters.fault_points import reach
from exporters.formats import config_pbtxt
from exporters.formats.config_pbtxt import WARM_UP_FOLDER, Serving, render
from exporters.formats.tensors import Arrays
from exporters.repository.files import (
    changed,
    now,
    replace_text,
    same,
    sha256,
    warm_up,
    write_warm_up,
)
from exporters.repository.lineage import Lineage
from exporters.repository.names import MODEL_NAME, RemovedVersions, model_name, numbers
from exporters.repository.state import journal_path, state_folder
from trading.encoding import Records
from trading.errors import BadRecord
from trading.files import sync
from trading.models.signature import MODELS, ModelSignature, contract
from trading.users import current_user

LINEAGE, GOLDEN = "lineage.json", "golden.npz"
#: How the folders begin that prove whose folder a server reads, and how long one may be needed.
NONCE, NONCE_S = ".ultrathink-nonce-", 3600.0
_lineages = Records(Lineage)


class ModelRepository:
    """A folder that Triton serves from."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.state = state_folder(self.root)
        self.staging, self.journal = self.state / "staging", journal_path(self.root)
        self._removed = RemovedVersions(self.state / "removed")

    @contextlib.contextmanager
    def nonce(self) -> Iterator[str]:
        """A folder that is here and nowhere else, for as long as a server is asked whether it sees it.

        Raises:
            ExportError: the folder cannot be written.
        """
        with self._writable():
            self.root.mkdir(parents=True, exist_ok=True)
            for left in self.root.glob(f"{NONCE}*"):
                # Of a killed exporter; one that is alive has its own, and takes it away itself.
                with contextlib.suppress(OSError):
                    if time.time() - left.stat().st_mtime > NONCE_S:
                        left.rmdir()
            folder = self.root / f"{NONCE}{secrets.token_hex(8)}"
            folder.mkdir()
        try:
            yield folder.name
        finally:
            folder.rmdir()

    def names(self) -> list[str]:
        """Models with a folder here; what is called as no model can be is nobody's business."""
        if not self.root.is_dir():
            return []
        return sorted(p.name for p in self.root.iterdir() if p.is_dir() and MODEL_NAME.fullmatch(p.name))

    def versions(self, name: str) -> list[int]:
        """Version folders, ascending, by Triton's own reading of their names."""
        folder = self.root / model_name(name)
        if not folder.is_dir():
            return []
        return numbers([p.name for p in folder.iterdir() if p.is_dir()])

    def folder(self, name: str, version: int) -> Path:
        """Of a version. Raises ExportError for what is no model's name."""
        return self.root / model_name(name) / str(version)

    @contextlib.contextmanager
    def lock(self, *names: str) -> Iterator[None]:
        """Hold models, in one order, so that two holders cannot wait for each other.

        Raises:
            Busy: another exporter holds one; says who.
            ExportError: the folder cannot be written.
        """
        folder = self.state / "locks"
        with contextlib.ExitStack() as held, self._writable():
            folder.mkdir(parents=True, exist_ok=True)
            for name in sorted({model_name(n) for n in names}):
                file = held.enter_context((folder / f"{name}.lock").open("a+"))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    file.seek(0)
                    holder = file.read().strip() or "somebody"
                    raise Busy(
                        f"another exporter holds {name} in {self.root}: {holder}; try again when it ends"
                    ) from error
                file.truncate(0)
                file.write(f"process {os.getpid()} of {current_user()} on {socket.gethostname()} since {now()}")
                file.flush()
            yield

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Path]:
        """A folder to write a version into, removed unless it was published; call under `lock`.

        Raises:
            ExportError: it cannot be written, or lies on another file system than the repository.
        """
        with self._writable():
            self.root.mkdir(parents=True, exist_ok=True)
            self.staging.mkdir(parents=True, exist_ok=True)
            if self.staging.stat().st_dev != self.root.stat().st_dev:
                raise ExportError(
                    f"{self.root} is a mount point, and {self.state} lies on another file system: a version could "
                    f"not appear whole. Use a folder inside it: --repository {self.root / 'models'}"
                )
            self.clear_staging(name)
            folder = self.staging / f"{name}~{secrets.token_hex(4)}"
            folder.mkdir()
            reach("staged")
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def clear_staging(self, name: str) -> None:
        """Remove what a killed exporter of the model left; call under `lock`."""
        for left in self.staging.glob(f"{model_name(name)}~*"):
            shutil.rmtree(left, ignore_errors=True)

    def publish(self, lineage: Lineage, staged: Path, golden_in: Arrays, golden_out: Arrays) -> int:
        """Give the staged folder the next number; call inside `stage`. Nothing serves it yet.

        A model's first version comes with its configuration, which is written before, or it does not come at all.
        Golden rows with the source's answers, the lineage and the files' hashes go into the version's folder:
        a newer file beside config.pbtxt would make every version look modified to Triton.
        """
        signature = lineage.contract
        target = self.root / model_name(signature.name)
        with self._writable(), self._whole(target):
            # By number: whoever wrote the model chose the tensors' names, and an archive's are paths.
            named = {f"in_{k}": a for k, a in enumerate(golden_in)} | {
                f"out_{k}": a for k, a in enumerate(golden_out)
            }
            np.savez(staged / GOLDEN, allow_pickle=False, **named)
            hashes = {p.name: sha256(p) for p in sorted(staged.iterdir())}
            if not (target / "config.pbtxt").is_file():
                self.configure(signature, Serving())
            while True:
                # Files count, too: nothing else may have the name.
                taken = numbers([p.name for p in target.iterdir()])
                version = max([*taken, self._removed.largest(signature.name)], default=0) + 1
                known = {"version": version, "files": hashes, "time": now(), "user": current_user()}
                filled = msgspec.structs.replace(lineage, **known)
                (staged / LINEAGE).write_bytes(msgspec.json.format(msgspec.json.encode(filled), indent=2) + b"\n")
                for path in staged.iterdir():
                    sync(path)
                sync(staged)
                reach("before_publish")
                try:
                    staged.rename(target / str(version))
                except OSError as error:
                    if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                        continue  # somebody else has just made this number
                    raise
                sync(target)
                reach("published")
                return version

    def lineage(self, name: str, version: int) -> Lineage:
        """What was recorded when the version was published.

        Raises:
            ExportError: there is no such version, or it is not ours.
        """
        folder = self.folder(name, version)
        if not folder.is_dir():
            known = ", ".join(map(str, self.versions(name))) or "none"
            raise ExportError(f"{name} has no version {version} in {self.root}: there is {known}")
        try:
            found = _lineages.read((folder / LINEAGE).read_bytes())
        except FileNotFoundError as error:
            raise ExportError(
                f"{folder} has no {LINEAGE}: somebody else put it there, and nothing is known about it. Export it: "
                f"`ultrathink export model {folder}/model.onnx --name {name}`"
            ) from error
        except (OSError, BadRecord) as error:
            raise ExportError(f"{folder / LINEAGE} cannot be read: {error}") from error
        if found.contract.name != name or any(file != Path(file).name for file in found.files):
            raise ExportError(f"{folder / LINEAGE} is not of {name}: export the model again")
        return found

    def verified_lineage(self, name: str, version: int) -> Lineage:
        """The lineage, when every file is what it was at publication. Raises ExportError when one is not."""
        found = self.lineage(name, version)
        folder = self.folder(name, version)
        if (file := changed(folder, found.files)) is not None:
            raise ExportError(f"{folder / file} was changed since it was published: export the model again")
        return found

    def golden(self, signature: ModelSignature, version: int) -> tuple[Arrays, Arrays]:
        """Inputs and the source's answers, as published."""
        path = self.folder(signature.name, version) / GOLDEN
        try:
            # In the order in which they were written; versions of before today have the tensors' names.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = [stored[name] for name in stored.files]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ExportError(f"{path} cannot be read: {error}") from error
        inputs, outputs = len(signature.inputs), len(signature.outputs)
        if len(arrays) != inputs + outputs:
            raise ExportError(
                f"{path} holds {len(arrays)} arrays; {signature.name} has {inputs} inputs and {outputs} outputs: "
                "export the model again"
            )
        return arrays[:inputs], arrays[inputs:]

    def serving(self, name: str) -> Serving:
        """What the model's configuration says is released; nothing where there is none.

        Nor where it cannot be read and none of the versions is ours: it is somebody else's, and keeps nobody from
        releasing another. Raises ExportError where one is.
        """
        path = self.root / model_name(name) / "config.pbtxt"
        if not path.is_file():
            return Serving()
        try:
            return config_pbtxt.parse(path.read_text(errors="replace"), str(path))
        except ExportError:
            if any((path.parent / str(v) / LINEAGE).is_file() for v in self.versions(name)):
                raise
            return Serving()

    def pins(self, *, without: str = "") -> dict[str, set[int]]:
        """Versions that released ensembles pin, by step."""
        found: dict[str, set[int]] = {}
        for name in self.names():
            serving = self.serving(name)
            if name == without or not serving.versions:
                continue
            for step, version in serving.pins.items():
                found.setdefault(step, set()).add(version)
        return found

    def configure(self, signature: ModelSignature, serving: Serving, *, refresh: bool = False) -> None:
        """config.pbtxt for the GPU and configs/cpu.pbtxt, each replaced whole, where they are not right already.

        The warm-up rows are written once, and again only with `refresh`: a newer file beside config.pbtxt makes
        Triton reload every version.
        """
        folder = self.root / model_name(signature.name)
        with self._writable():
            (folder / "configs").mkdir(parents=True, exist_ok=True)
            if signature.backend != "ensemble" and serving.real_rows:
                write_warm_up(folder / WARM_UP_FOLDER, signature, refresh=refresh)
            replace_text(folder / "configs" / "cpu.pbtxt", render(signature, "cpu", serving))
            reach("half_configured")
            replace_text(folder / "config.pbtxt", render(signature, "gpu", serving))
        reach("configured")

    def remove(self, name: str, version: int) -> int:
        """Take a version out whole, then delete it; returns its size in bytes. Call under `lock`."""
        with self._writable():
            self.staging.mkdir(parents=True, exist_ok=True)
            away = self.staging / f"{name}~{secrets.token_hex(4)}"
            self._removed.note(name, version)
            self.folder(name, version).rename(away)
            sync(self.root / name)
            reach("pruning")
            size = sum(p.stat().st_size for p in away.rglob("*") if p.is_file())
            shutil.rmtree(away)
            return size

    def size(self, name: str, version: int) -> int:
        """Bytes of a version's files."""
        return sum(p.stat().st_size for p in self.folder(name, version).rglob("*") if p.is_file())

    def stale_configs(self, names: tuple[str, ...] = tuple(MODELS)) -> list[Path]:
        """Configuration files that differ from what their signature generates."""
        stale = []
        for name in names:
            signature, serving = contract(name), self.serving(name)
            for file, device in (("config.pbtxt", "gpu"), ("configs/cpu.pbtxt", "cpu")):
                path = self.root / name / file
                wanted = render(signature, "gpu" if device == "gpu" else "cpu", serving)
                if not path.is_file() or path.read_text() != wanted:
                    stale.append(path)
            if signature.backend != "ensemble":
                folder = self.root / name / WARM_UP_FOLDER
                stale += [folder / k for k, v in warm_up(signature).items() if not same(folder / k, v)]
        return stale

    @contextlib.contextmanager
    def _whole(self, folder: Path) -> Iterator[None]:
        """A model's folder that is made here goes again where what is done in it fails."""
        is_new = not folder.exists()
        try:
            yield
        except BaseException:
            if is_new:
                shutil.rmtree(folder, ignore_errors=True)
            raise

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        """Translate a read-only or full disk."""
        try:
            yield
        except OSError as error:
            if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
                raise ExportError(f"{error.filename or self.root} cannot be written: {error.strerror}") from error
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise ExportError(
                    f"no space is left on the disk of {self.root}: free some with `ultrathink export prune`; "
                    "what was not told to be changed is as it was"
                ) from error
            raise


def newest(repository: ModelRepository, name: str) -> int:
    """The released version, else the newest. Raises ExportError where there is none."""
    released, versions = repository.serving(name).released, repository.versions(name)
    if not versions:
        known = ", ".join(n for n in repository.names() if repository.versions(n)) or "none"
        raise ExportError(f"{repository.root} has no version of {name!r}: it has {known}")
    return released if released in versions and released is not None else versions[-1]

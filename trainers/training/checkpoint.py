"""What a training has reached, on disk, so that a kill costs seconds.

A stage is one thing that is trained or computed: "fold1-regime_detection". While it runs, its progress lies in
STAGE.progress.pt; when it is done, its result in STAGE.pt. Both are written beside and renamed. They are read
without unpickling (torch's weights_only).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import psutil
import torch

from trading.errors import ConfigurationError
from trading.files import replace_file

RUNNING = "running.json"


class Checkpoints:
    """A folder of one training, named by what it is trained from and with."""

    def __init__(self, root: Path, identity: dict[str, Any]) -> None:
        """`identity`: data, settings and code version; anything that would change the result."""
        text = json.dumps(identity, sort_keys=True, default=str)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._identity = text

    def open(self, *, fresh: bool) -> str:
        """Begin, or go on where a process that is gone stopped.

        Returns:
            A sentence on what was found; empty for a new training.

        Raises:
            ConfigurationError: another process trains the same now.
        """
        owner = self._owner()
        if owner is not None and owner[0] != os.getpid() and is_alive(*owner):
            raise ConfigurationError(
                f"process {owner[0]} trains the same now ({self.folder}): wait for it, or end it"
            )
        if fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        done = sorted(p.name.removesuffix(".pt") for p in self.folder.glob("*.pt"))
        replace_file(self.folder / "identity.json", self._identity.encode())
        replace_file(
            self.folder / RUNNING,
            json.dumps({"pid": os.getpid(), "since": psutil.Process().create_time()}).encode(),
        )
        if not done:
            return ""
        behind = f"going on behind {done[-1].removesuffix('.progress')}"
        if owner is None:
            return f"a training of the same was interrupted; {behind}"
        dead = (
            f"process {owner[0]} trained the same and ended without a word (killed, perhaps for memory: exit 137)"
        )
        return f"{dead}; {behind}"

    def close(self, *, finished: bool) -> None:
        """End; a finished training needs its checkpoints no longer."""
        if finished:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            (self.folder / RUNNING).unlink(missing_ok=True)

    def save(self, name: str, value: dict[str, Any]) -> None:
        """Keep tensors, numbers, strings, and lists and dicts of them."""
        replace_file(self.folder / f"{name}.pt", lambda file: torch.save(value, file))

    def load(self, name: str) -> dict[str, Any] | None:
        """What was saved; None where nothing was, or it cannot be read: then it is computed again."""
        try:
            found: dict[str, Any] = torch.load(self.folder / f"{name}.pt", map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, UnpicklingError):
            return None
        return found

    def drop(self, name: str) -> None:
        """Forget."""
        (self.folder / f"{name}.pt").unlink(missing_ok=True)

    def _owner(self) -> tuple[int, float] | None:
        try:
            told = json.loads((self.folder / RUNNING).read_bytes())
            return int(told["pid"]), float(told["since"])
        except (OSError, ValueError, KeyError):
            return None


def is_alive(pid: int, since: float) -> bool:
    """Whether the process that had this number then still runs: numbers are given again."""
    try:
        return abs(psutil.Process(pid).create_time() - since) < 1.0
    except psutil.Error:
        return False

"""Triton's Python backends run each model in a process of its own, and Triton is "ready" after one has died.

Nothing starts it again: every request to that model fails from then on. So the supervisor looks at them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import psutil


class ModelProcesses:
    """Those of one server, remembered from look to look: a corpse no longer says whose it was."""

    def __init__(self, repository: Path) -> None:
        """`repository`: only models that lie there are served; a copy on trial lies elsewhere, and may die."""
        self._repository = f"{os.fspath(repository)}{os.sep}"
        self._models: dict[int, str] = {}

    def __call__(self, children: Sequence[psutil.Process]) -> str:
        """Which served models have no process any more, for people; "" where all have.

        One that is unloaded is waited for by Triton: only what died by itself is left as a corpse.
        """
        living: dict[int, str] = {}
        dead = []
        for child in children:
            try:
                if child.status() != psutil.STATUS_ZOMBIE:
                    living[child.pid] = self._models.get(child.pid) or self._model(child.cmdline())
                elif name := self._models.get(child.pid, ""):
                    dead.append(name)
            except psutil.NoSuchProcess:
                continue
        self._models = living
        return f"the process of {', '.join(sorted(dead))} ended" if dead else ""

    def _model(self, words: Sequence[str]) -> str:
        """The model of the repository that a command line names; "" where it names none."""
        path = next((word for word in words if word.startswith(self._repository)), "")
        return path.removeprefix(self._repository).partition(os.sep)[0]

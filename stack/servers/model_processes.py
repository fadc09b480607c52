"""Triton's Python backends run each model in a process of its own, and Triton is "ready" after one has died.

Nothing starts it again: every request to that model fails from then on. So the supervisor looks at them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import psutil

from stack.servers.plain_paths import plain
from trading.errors import ConfigurationError


class ModelProcesses:
    """Those of one server, remembered from look to look: a corpse no longer says whose it was."""

    def __init__(self, repository: Path) -> None:
        """`repository`: only models that lie there are served; a copy on trial lies elsewhere, and may die."""
        self._repository = repository
        self._models: dict[int, str] = {}
        #: At the last look: Triton itself needs a moment to take away one that it ends.
        self._corpses: set[int] = set()

    def __call__(self, children: Sequence[psutil.Process]) -> str:
        """Which served models have no process any more, for people; "" where all have.

        One that is unloaded is waited for by Triton: only what died by itself is left as a corpse.
        """
        living: dict[int, str] = {}
        corpses: dict[int, str] = {}
        for child in children:
            try:
                if child.status() != psutil.STATUS_ZOMBIE:
                    living[child.pid] = self._models.get(child.pid) or self._model(child.cmdline())
                elif name := self._models.get(child.pid, ""):
                    corpses[child.pid] = name
            except psutil.NoSuchProcess:
                continue
        dead = sorted(name for pid, name in corpses.items() if pid in self._corpses)
        self._models, self._corpses = living | corpses, set(corpses)
        return f"the process of {', '.join(dead)} ended" if dead else ""

    def _model(self, words: Sequence[str]) -> str:
        """The model of the repository that a command line names; "" where it names none."""
        folders = {self._repository}
        with contextlib.suppress(ConfigurationError):
            # Triton knows it by a link where its own name is not plain.
            folders.add(plain(self._repository))
        for folder in folders:
            begin = f"{os.fspath(folder)}{os.sep}"
            if path := next((word for word in words if word.startswith(begin)), ""):
                return path.removeprefix(begin).partition(os.sep)[0]
        return ""

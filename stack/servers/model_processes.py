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


def model_of(words: Sequence[str], repository: Path) -> str:
    """The model of a repository whose process has this command line; "" where it is none's."""
    folders = {repository}
    with contextlib.suppress(ConfigurationError):
        # Triton knows it by a link where its own name is not plain.
        folders.add(plain(repository))
    for folder in folders:
        begin = f"{os.fspath(folder)}{os.sep}"
        if path := next((word for word in words if word.startswith(begin)), ""):
            return path.removeprefix(begin).partition(os.sep)[0]
    return ""


class ModelProcesses:
    """Those of one server, remembered from look to look: a corpse no longer says whose it was."""

    def __init__(self, repository: Path) -> None:
        """`repository`: only models that lie there are served; a copy on trial lies elsewhere, and may die."""
        self._repository = repository
        self._models: dict[int, str] = {}
        #: At the last look: Triton itself needs a moment to take away one that it ends.
        self._corpses: set[int] = set()
        self._nameless = 0

    def __call__(self, children: Sequence[psutil.Process]) -> str:
        """Which served models have no process any more, for people; "" where all have.

        One that is unloaded is waited for by Triton: only what died by itself is left as a corpse.
        """
        found: dict[int, str] = {}
        corpses: set[int] = set()
        nameless = 0
        for child in children:
            try:
                if child.status() != psutil.STATUS_ZOMBIE:
                    found[child.pid] = self._models.get(child.pid) or model_of(child.cmdline(), self._repository)
                elif child.pid in self._models:
                    found[child.pid] = self._models[child.pid]
                    corpses.add(child.pid)
                else:
                    nameless += 1
            except psutil.NoSuchProcess:
                continue
        dead = sorted(found[pid] for pid in corpses & self._corpses if found[pid])
        self._models, self._corpses, self._nameless = found, corpses, nameless
        return f"the process of {', '.join(dead)} ended" if dead else ""

    def troubles(self) -> list[str]:
        """What died before anybody had seen whose process it was: it may have been a served model's."""
        if not self._nameless:
            return []
        return ["the process of some model ended, and nobody knows of which: `ultrathink stack restart triton`"]

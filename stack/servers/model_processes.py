"""Triton's Python backends run each model in a process of its own, and Triton is "ready" after one has died.

Nothing starts it again: every request to that model fails from then on. So the supervisor looks at them.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import psutil

from stack.servers.plain_paths import plain
from trading.errors import ConfigurationError

SURE_S = 1.0


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

    def __init__(self, repository: Path, served: Callable[[], Collection[str]], sure_s: float = SURE_S) -> None:
        """Nothing was seen yet.

        Args:
            repository: only models that lie there are served; a copy on trial lies elsewhere, and may die.
            served: names of those that must have a process; asked where a corpse cannot be named.
            sure_s: how long a corpse lies before it counts.
        """
        self._repository, self._served, self._sure_s = repository, served, sure_s
        self._models: dict[int, str] = {}
        #: Of the last look: nobody can say which of them lies there.
        self._suspected: set[str] = set()
        self._nameless = 0

    def __call__(self, children: Sequence[psutil.Process]) -> str:
        """Which served models have no process any more, for people; "" where all have.

        One that is unloaded is waited for by Triton: only what died by itself is left as a corpse.
        """
        found: dict[int, str] = {}
        corpses: list[psutil.Process] = []
        suspected, nameless = set[str](), 0
        for child in children:
            try:
                if child.status() != psutil.STATUS_ZOMBIE:
                    found[child.pid] = self._models.get(child.pid) or model_of(child.cmdline(), self._repository)
                elif child.pid in self._models:
                    found[child.pid] = self._models[child.pid]
                    corpses += [child] if found[child.pid] else []
                else:
                    nameless += 1
            except psutil.NoSuchProcess:
                continue
        if nameless:
            # It died before anybody looked: under an earlier supervisor, or as soon as it was there.
            suspected = set(self._served()) - set(found.values())
        dead = sorted({found[pid] for pid in self._still(corpses)} | (suspected & self._suspected))
        self._models, self._suspected, self._nameless = found, suspected, nameless
        return f"the process of {', '.join(dead)} ended" if dead else ""

    def _still(self, corpses: Sequence[psutil.Process]) -> list[int]:
        """Those that lie there a moment later: Triton needs one to take away a process that it ends."""
        if corpses:
            time.sleep(self._sure_s)
        still = []
        for corpse in corpses:
            with contextlib.suppress(psutil.NoSuchProcess):
                if corpse.status() == psutil.STATUS_ZOMBIE:
                    still.append(corpse.pid)
        return still

    def troubles(self) -> list[str]:
        """What died and cannot be named, while every served model has a process."""
        if not self._nameless:
            return []
        return ["a process of some model ended, and nobody knows of which: `ultrathink stack restart triton`"]

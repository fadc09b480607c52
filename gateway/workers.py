"""Threads that a gateway cannot do without: what one dies of is kept, and told to whoever asks for its health."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger()


class Worker(threading.Thread):
    """A daemon thread that works until it is told to end."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._begun, self._failure = False, ""

    def run(self) -> None:
        """Work; an error ends the thread, and is kept."""
        self._begun = True
        try:
            self._work()
        except BaseException as error:
            self._failure = f"{type(error).__name__}: {error}"[:200]
            log.exception("a thread died", thread=self.name, reason=self._failure)

    @property
    def problem(self) -> str:
        """Why it no longer works; "" while it does, or has not begun."""
        if not self._begun or self.is_alive():
            return ""
        return f"thread {self.name} has ended" + (f" ({self._failure})" if self._failure else "")

"""Threads that end with the process, whatever they wait for: a server that hangs keeps nobody from ending."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Workers:
    """A few threads and what they are to do; the standard library's pool waits for its threads at the very end."""

    def __init__(self, count: int, name: str) -> None:
        """Threads begin at once."""
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have it done; what is cancelled before it begins is left out."""
        future: Future[T] = Future()
        self._work.put((future, work))
        return future

    def close(self, wait_s: float = 0.0) -> None:
        """End after what is waiting, and wait so long for that."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join(wait_s)

    def _run(self) -> None:
        while (todo := self._work.get()) is not None:
            future, work = todo
            if not future.set_running_or_notify_cancel():
                continue
            try:
                found = work()
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
                future.set_exception(error)
            else:
                future.set_result(found)

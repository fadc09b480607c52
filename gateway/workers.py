"""Threads that a gateway cannot do without, and none that keeps it from ending."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import structlog

log = structlog.get_logger()
Result = TypeVar("Result")


class Worker(threading.Thread):
    """A daemon thread that works until it is told to end.

    What it dies of is kept, and told to whoever asks for its health.
    """

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


class Waiter:
    """A thread that does what may never end, one thing after another.

    Unlike a `ThreadPoolExecutor`'s it is not waited for when the process ends. It ends when nobody has its Waiter.
    """

    def __init__(self, name: str) -> None:
        jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        threading.Thread(target=_do_all, args=(jobs,), name=name, daemon=True).start()
        weakref.finalize(self, jobs.put, None)
        self._jobs = jobs

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        """What it will return or raise, once all that was submitted before is done."""
        future: Future[Result] = Future()
        self._jobs.put((work, future))
        return future


_Job = tuple[Callable[[], Any], "Future[Any]"]


def _do_all(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        work, future = job
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            future.set_exception(error)
        # They hold whoever gave them, who holds the Waiter; and an error holds this frame.
        del job, work, future

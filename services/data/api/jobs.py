"""Work in the background, one after another, with its progress; what is done is kept for a while."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import structlog
from msgspec import Struct

from services.data.errors import NotFound, TooMany
from services.data.ports import Progress
from services.data.workers import Workers
from trading.errors import UltraThinkError

log = structlog.get_logger()
KEPT = 1000
MOST_WAITING = 16
CLOSE_S = 5.0
State = Literal["waiting", "running", "done", "failed"]


class Job(Struct):
    """One piece of work.

    Attributes:
        id: to ask for it.
        kind: of work.
        state: waiting, running, done or failed.
        done, total: of its progress; 0 of 0 where that is not known.
        result: once it is done.
        problem: why it failed.
    """

    id: str
    kind: str
    state: State = "waiting"
    done: int = 0
    total: int = 0
    result: dict[str, Any] | None = None
    problem: str | None = None

    def to_answer(self) -> dict[str, Any]:
        """As it is answered."""
        return {
            "job": self.id, "kind": self.kind, "state": self.state, "done": self.done, "total": self.total,
            "result": self.result, "problem": self.problem,
        }  # fmt: skip


class Jobs:
    """All of them; one thread works."""

    def __init__(self) -> None:
        self._workers = Workers(1, "jobs")
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        #: What was asked for -> its newest job.
        self._asked: dict[str, str] = {}
        self._closing = False

    def start(self, kind: str, asked: str, work: Callable[[Progress], dict[str, Any]]) -> Job:
        """Begin, unless the very same is waiting or running already. Raises TooMany.

        Args:
            kind: of work.
            asked: what names it; "" for work that is never the same.
            work: told whom to tell of its progress.
        """
        with self._lock:
            known = self._jobs.get(self._asked.get(asked, "")) if asked else None
            if known is not None and known.state in {"waiting", "running"}:
                return known
            waiting = sum(job.state in {"waiting", "running"} for job in self._jobs.values())
            if waiting >= MOST_WAITING:
                raise TooMany(f"{waiting} pieces of work wait: come again", retry_after_s=5)
            job = Job(secrets.token_hex(8), kind)
            self._jobs[job.id] = job
            if asked:
                self._asked[asked] = job.id
            while len(self._jobs) > KEPT:
                oldest = next(one for one in self._jobs.values() if one.state in {"done", "failed"})
                del self._jobs[oldest.id]
            self._asked = {name: one for name, one in self._asked.items() if one in self._jobs}
        self._workers.submit(lambda: self._run(job, work))
        return job

    def get(self, job_id: str) -> Job:
        """Raises NotFound."""
        with self._lock:
            found = self._jobs.get(job_id)
        if found is None:
            raise NotFound(f"there is no job {job_id[:50]!r}: the last {KEPT:,} are kept, until the service ends")
        return found

    def last(self, asked: str) -> Job | None:
        """The newest of what was asked for."""
        with self._lock:
            return self._jobs.get(self._asked.get(asked, ""))

    def close(self) -> None:
        """What waits is given up; what runs is told so, at its next word of progress, and waited for a little."""
        self._closing = True
        self._workers.close(CLOSE_S)

    def _run(self, job: Job, work: Callable[[Progress], dict[str, Any]]) -> None:
        def progress(done: int, total: int) -> None:
            job.done, job.total = done, total
            if self._closing:
                raise Ended("the service ends")

        if self._closing:
            job.problem, job.state = "the service ends", "failed"
            return
        job.state = "running"
        try:
            job.result = work(progress)
            job.state = "done"
        except UltraThinkError as error:
            job.problem, job.state = str(error), "failed"
        except Exception as error:
            # Whatever it is, whoever waits must hear of it.
            log.exception("a job failed", kind=job.kind)
            job.problem, job.state = f"it failed: {type(error).__name__}; the service's log tells more", "failed"


class Ended(UltraThinkError):
    """Work that is given up because the service ends."""

"""What all users share: the options, the rows, and how a request is reported."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gevent import GreenletExit
from locust import User, constant_pacing

from connectors.triton.asking import Array, ServedModel, ServedTensor
from loadtest.open_loop.rows import DEFAULT_SOURCE, ModelRows, rows_for, shapes_of

TIMEOUT_S = 5.0
#: A request that has waited so long when the test ends has failed.
HUNG_S = 1.0
#: By model and where its rows come from, once a process.
_rows: dict[tuple[object, ...], ModelRows] = {}


def rows_of(served: ServedModel, options: Any) -> ModelRows:
    """Rows that a model takes, as the command line says. Raises InvalidRun, ConfigurationError, SourceError."""
    file, told = getattr(options, "rows", ""), getattr(options, "shape", "")
    key = (served, getattr(options, "data", DEFAULT_SOURCE), file, told)
    if key not in _rows:
        shapes = shapes_of(told.split())
        _rows[key] = rows_for(served, str(key[1]), Path(file) if file else None, shapes)
    return _rows[key]


class PacedUser(User):
    """A closed loop that means to ask every `gap_s`; what it could not ask meanwhile is counted by correction.

    Attributes:
        target: name of the gates, and of the requests in Locust's statistics.
        protocol: Locust's type of the requests.
        needs: options without which he takes part only where his tag is asked for.
        gap_s: from one request to the next, however long they take.
    """

    abstract = True
    #: Shown on Locust's page, which asks for one; where the servers are is said by options of their own.
    host = "see Custom parameters"
    target: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    protocol: ClassVar[str]
    gap_s: ClassVar[float] = 0.01
    wait_time = constant_pacing(gap_s)

    def on_start(self) -> None:
        """Connect; a user that cannot is one failed request, and ends."""
        if getattr(self.environment, "proves_nothing", False):
            raise GreenletExit
        self._due = math.inf
        failed = attempt(self.connect)
        if failed is not None:
            self.timed(lambda: again(failed))
            # StopUser would say the same, with a traceback printed above it.
            raise GreenletExit

    def connect(self) -> None:
        """Whatever a user needs before its first request."""

    @property
    def options(self) -> Any:
        """The command line's options."""
        return self.environment.parsed_options

    def timed(self, ask: Callable[[], int]) -> None:
        """Ask, and report how long it took; `ask` gives the answer's size in bytes, or raises what went wrong."""
        started, began = time.time(), time.perf_counter()
        # Later than both its gap and its last answer: this process was too busy to ask.
        lag_s = max(0.0, began - self._due)
        try:
            self.report(ask(), None, started, began, lag_s)
        except GreenletExit:
            # The test ends. What hangs has failed; what was about to be answered is nobody's business.
            if time.perf_counter() - began > HUNG_S:
                hung = TimeoutError(f"no answer within {HUNG_S:g} s when the test ended")
                self.report(0, hung, started, began, lag_s)
            raise
        except Exception as failure:  # noqa: BLE001 (whatever went wrong is the request's result)
            self.report(0, failure, started, began, lag_s)
        self._due = max(began + self.gap_s, time.perf_counter())

    def report(self, size: int, error: Exception | None, started: float, began: float, lag_s: float) -> None:
        """Tell Locust, in milliseconds."""
        self.environment.events.request.fire(
            request_type=self.protocol,
            name=self.target,
            response_time=(time.perf_counter() - began) * 1e3,
            response_length=size,
            exception=error,
            context={"gap_s": self.gap_s, "lag_s": lag_s},
            start_time=started,
        )


class RowsUser(PacedUser):
    """Sends batches of a model's rows to its server."""

    abstract = True

    def on_start(self) -> None:
        """The rows, and a connection."""
        self.batch = int(getattr(self.options, "batch", 8))
        self.model = getattr(self.options, "model", "trading_decision")
        self.random = np.random.default_rng()
        super().on_start()

    def take(self, served: ServedModel) -> None:
        """Have rows of what a model takes. Raises InvalidRun."""
        self.rows = rows_of(served, self.options)

    def some_rows(self) -> list[tuple[ServedTensor, Array]]:
        """A batch, never the same again and again."""
        return self.rows.batch(int(self.random.integers(0, self.rows.count)), self.batch)


def attempt(work: Callable[[], None]) -> Exception | None:
    """What went wrong, if anything."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 (the caller reports it)
        return error
    return None


def again(error: Exception) -> int:
    """Raise what was kept."""
    raise error

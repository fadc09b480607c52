"""The open model on the model server itself: calls at their times by gRPC, none waits for another."""

from __future__ import annotations

import tempfile
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from loadtest.errors import InvalidRun
from loadtest.measuring.latency_tally import Tally
from loadtest.measuring.result import RunResult
from loadtest.measuring.sampling import Sampler
from loadtest.open_loop.pacing import Monotonic, pace
from loadtest.open_loop.rows import DEFAULT_SOURCE, ModelRows, rows_for
from loadtest.open_loop.schedule import Speed, until
from loadtest.open_loop.transports import TorchServeTransport, Transport, TritonTransport
from trading.errors import ConfigurationError
from trading.models.signature import TRADING_DECISION

#: A call beyond so many in flight is not made, and counts as failed: the server is drowning.
MOST_IN_FLIGHT = 5_000
LEAD_NS = 200_000_000
#: Calls that are made ready before any is sent, and how much memory they may take.
READY, MOST_READY_BYTES = 64, 2**28
PROGRESS_EVERY = 256
#: Times of a call: meant, sent, answered (0: failed).
COLUMNS, BUFFERED, CHUNK = 3, 24_576, 500_000
NO_CALLS = np.zeros((0, COLUMNS), np.int64)


class ModelLoad(Struct, frozen=True):
    """What is asked of the model server.

    Attributes:
        address: its gRPC.
        model, version: "" is the version that the server chooses.
        batch: rows of a call.
        speed: see Speed.parse; recorded gaps need `source`'s.
        duration_s, warm_up_s: the length, and how much of its beginning does not count.
        source: where feature rows come from, for a model that reads them.
        rows: a file of rows, for any model; without one they are made up as its inputs are.
        shapes: by input, one row's dims where the server leaves them open.
        timeout_s: of a call.
        token_file: with the token for TorchServe's inference; None: it is a Triton.
    """

    address: str
    model: str = TRADING_DECISION.name
    version: str = ""
    batch: int = 8
    speed: str = "200/s"
    duration_s: float = 15.0
    warm_up_s: float = 3.0
    source: str = DEFAULT_SOURCE
    seed: int = 0
    timeout_s: float = 5.0
    rows: Path | None = None
    shapes: Mapping[str, str] = {}
    token_file: Path | None = None

    def transport(self) -> Transport:
        """What reaches the server."""
        if self.token_file is not None:
            return TorchServeTransport(self.address, self.token_file)
        return TritonTransport(self.address)

    def check(self) -> Speed:
        """The speed. Raises ConfigurationError for what cannot be run."""
        speed = Speed.parse(self.speed)
        if speed.kind in {"max", "recorded"}:
            raise ConfigurationError(
                f"speed {self.speed!r}: calls of a server need a rate, as 200/s or poisson:200/s"
            )
        if self.duration_s <= self.warm_up_s:
            raise ConfigurationError(
                f"--duration {self.duration_s:g} s is all warm-up (--warm-up {self.warm_up_s:g} s)"
            )
        if self.batch < 1:
            raise ConfigurationError(f"--batch {self.batch}: at least one row")
        return speed


class Calls:
    """Makes calls, and notes their times."""

    def __init__(
        self, load: ModelLoad, transport: Transport, rows: ModelRows, out: Path, show: Callable[[int, int], None]
    ) -> None:
        self._load, self._transport, self._show = load, transport, show
        # Ready to be sent, as many as memory has room for.
        wide = sum(array[:1].nbytes for array in rows.arrays) * load.batch
        ready = max(1, min(READY, rows.count, MOST_READY_BYTES // wide))
        self._inputs = [transport.prepare(rows, k, load.batch) for k in range(ready)]
        self._lock = threading.Lock()
        self._times, self._file = array("q"), out.open("wb")
        self.errors: Counter[str] = Counter()
        self.sent = self.done = 0
        #: Calls of which nothing was ever heard, not even their timeout.
        self.unanswered = 0

    def warm(self) -> None:
        """Connect, and see one answer. Raises InvalidRun."""
        self._transport.warm(self._load.model, self._load.version, self._inputs[0])

    def send(self, number: int, due_ns: int) -> None:
        """One call; its answer comes in a thread of the client library."""
        sent_ns = Monotonic.now_ns()
        self.sent += 1
        if self.sent - self.done > MOST_IN_FLIGHT:
            self._note(due_ns, sent_ns, f"more than {MOST_IN_FLIGHT:,} calls in flight")
        else:
            prepared = self._inputs[number % len(self._inputs)]
            ended = partial(self._note, due_ns, sent_ns)
            self._transport.begin(self._load.model, self._load.version, prepared, self._load.timeout_s, ended)
        if number % PROGRESS_EVERY == 0:
            self._show(self.sent, self.done)

    def close(self) -> None:
        """Wait for what is in flight; each call has its own timeout."""
        deadline = Monotonic.now_ns() + int((self._load.timeout_s + 5.0) * 1e9)
        while self.done < self.sent and Monotonic.now_ns() < deadline:
            Monotonic.sleep_ns(5_000_000)
        self._transport.close()
        with self._lock:
            self.unanswered = self.sent - self.done
            self._times.tofile(self._file)
            self._file.close()

    def _note(self, due_ns: int, sent_ns: int, error: str) -> None:
        now_ns = Monotonic.now_ns()
        with self._lock:
            self.done += 1
            self._times.extend((due_ns, sent_ns, 0 if error else now_ns))
            if error:
                self.errors[error] += 1
            if len(self._times) >= BUFFERED and not self._file.closed:
                self._times.tofile(self._file)
                del self._times[:]


def drive_model(
    load: ModelLoad,
    *,
    servers: Mapping[str, int] | None = None,
    settings: Mapping[str, str] | None = None,
    show: Callable[[int, int], None] = lambda *_: None,
) -> RunResult:
    """Call at the planned times, and count.

    Raises:
        ConfigurationError: the load makes no sense.
        InvalidRun: nobody answers, or the model does not take the rows.
    """
    speed = load.check()
    transport = load.transport()
    try:
        rows = rows_for(transport.check(load.model, load.version, load.batch), load.source, load.rows, load.shapes)
    except BaseException:
        transport.close()
        raise
    with tempfile.TemporaryDirectory(prefix="ultrathink-load-") as folder:
        path = Path(folder) / "calls.bin"
        calls = Calls(load, transport, rows, path, show)
        sampler = None
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            calls.warm()
            sampler = Sampler(servers or {})
            start_ns = Monotonic.now_ns() + LEAD_NS
            pace(
                until(speed.arrivals(load.seed), limit=None, duration_s=load.duration_s),
                calls.send,
                Monotonic,
                start_ns,
            )
        finally:
            sampled = sampler.close() if sampler is not None else []
            calls.close()
        times = np.memmap(path, np.int64, "r").reshape(-1, COLUMNS) if path.stat().st_size else NO_CALLS
        if int(times[:, 0].max(initial=0)) < start_ns + load.warm_up_s * 1e9:
            raise InvalidRun(f"{calls.sent} calls in {load.duration_s:g} s, none after the warm-up: ask longer")
        return _tally(load, start_ns, times, calls, {
            "started_at": started_at, "servers": sampled,
            "settings": {"model": load.model, "batch": str(load.batch), "speed": load.speed,
                         "source": rows.source,
                         **(settings or {})},
        })  # fmt: skip


def _tally(
    load: ModelLoad, start_ns: int, times: npt.NDArray[np.int64], calls: Calls, given: dict[str, Any]
) -> RunResult:
    tally = Tally(start_ns + int(load.warm_up_s * 1e9), int(times[:, 0].max()))
    failed = 0
    for begin in range(0, len(times), CHUNK):
        part = times[begin : begin + CHUNK]
        tally.plan(part[:, 0], part[:, 1])
        failed += int((tally.measured(part[:, 0]) & (part[:, 2] == 0)).sum())
        part = part[part[:, 2] > 0]
        tally.add(part[:, 0], part[:, 1], part[:, 2])
    # Calls of which nothing was ever heard left no row.
    tally.planned += calls.unanswered
    return tally.result(
        target="triton" if load.token_file is None else "torchserve",
        warm_up_s=load.warm_up_s,
        sent=calls.sent,
        missing=calls.unanswered,
        errors=_most(calls.errors, failed),
        **given,
    )


def _most(errors: Counter[str], failed: int) -> dict[str, int]:
    """Errors of the measured part; what they were is known of the whole run only."""
    return {} if not failed else {"; ".join(e for e, _ in errors.most_common(3)): failed}

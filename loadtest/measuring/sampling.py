"""CPU and memory of the servers under load, once a second, in constant memory."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping

import psutil

from loadtest.measuring.result import ServerSamples

EVERY_S = 1.0
#: When so many samples are held, every second one is dropped and the next come half as often.
MOST = 1200


class Sampler:
    """Samples processes with their children in a thread until it is closed."""

    def __init__(self, processes: Mapping[str, int], every_s: float = EVERY_S) -> None:
        """`processes`: names and pids; what has ended is sampled no more."""
        self._found: dict[str, psutil.Process] = {}
        for name, pid in processes.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                self._found[name] = psutil.Process(pid)
        self._rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in self._found}
        self._busy: dict[tuple[str, int], float] = {}
        self._every_s = every_s
        self._start = self._last = time.monotonic()
        self._stopping = threading.Event()
        self._sample(keep=False)
        self._thread = threading.Thread(target=self._watch, name="sample-servers", daemon=True)
        self._thread.start()

    def close(self) -> list[ServerSamples]:
        """Stop, and give what was seen."""
        self._stopping.set()
        self._thread.join()
        return [
            ServerSamples(name, *(list(column) for column in zip(*rows, strict=True)))
            for name, rows in self._rows.items()
            if rows
        ]

    def _watch(self) -> None:
        while not self._stopping.wait(self._every_s):
            self._sample(keep=True)

    def _sample(self, *, keep: bool) -> None:
        now = time.monotonic()
        for name, process in self._found.items():
            busy, memory = self._of(name, process)
            if keep and memory > 0.0:
                cpu = 100.0 * busy / max(1e-9, now - self._last)
                self._rows[name].append((round(now - self._start, 2), round(cpu, 1), round(memory, 1)))
        self._last = now
        if any(len(rows) >= MOST for rows in self._rows.values()):
            self._rows = {name: rows[1::2] for name, rows in self._rows.items()}
            self._every_s *= 2.0

    def _of(self, name: str, process: psutil.Process) -> tuple[float, float]:
        """CPU seconds since the last look, and resident MB without what is shared, of a whole family."""
        busy = memory = 0.0
        family = [process]
        with contextlib.suppress(psutil.Error):
            family += process.children(recursive=True)
        for one in family:
            with contextlib.suppress(psutil.Error):
                times, held = one.cpu_times(), one.memory_info()
                total = times.user + times.system
                busy += max(0.0, total - self._busy.get((name, one.pid), 0.0))
                self._busy[name, one.pid] = total
                memory += (held.rss - getattr(held, "shared", 0)) / 2**20
        return busy, memory

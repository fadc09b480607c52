"""HTTP requests at fixed times, in a process of its own, told on stdin what to send.

An open model: a request that is answered late holds up no other, and counts from the time for which it was meant.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
from msgspec import Struct

#: Connections; a request that finds none free waits, and that is part of its latency.
CONNECTIONS = 64
#: What is not answered so long after the end has failed.
PATIENCE_S = 5.0


class HttpLoad(Struct, frozen=True):
    """What is sent.

    Attributes:
        address: of the service.
        token: sent with each request.
        paths: to ask for.
        rate: requests a second.
        seconds: that count, after the warm-up.
        warm_up_s: that does not count.
        shuffled: whether paths are taken in any order; else one after another, none twice.
    """

    address: str
    token: str
    paths: list[str]
    rate: float
    seconds: float
    warm_up_s: float
    shuffled: bool


class HttpFound(Struct, frozen=True):
    """What came back, of what counts; latencies in ms from the intended time, of those with 200."""

    p50: float
    p95: float
    p99: float
    sent: int
    statuses: dict[int, int]
    per_s: float


class Generator:
    """Asks as it was told."""

    def __init__(self, load: HttpLoad) -> None:
        self._load, place = load, urlsplit(load.address)
        self._host, self._port = place.hostname or "127.0.0.1", place.port or 80
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._seen: list[tuple[float, float, int]] = []

    async def run(self) -> HttpFound:
        """Send all, and wait for what is answered in time."""
        load = self._load
        for _ in range(CONNECTIONS):
            self._free.put_nowait(await asyncio.open_connection(self._host, self._port))
        count = int(load.rate * (load.seconds + load.warm_up_s))
        pick = random.Random(1)
        paths = [
            pick.choice(load.paths) if load.shuffled else load.paths[k % len(load.paths)] for k in range(count)
        ]
        began, tasks = time.perf_counter(), []
        for k, path in enumerate(paths):
            due = began + k / load.rate
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(self._ask(path, due)))
        await asyncio.wait(tasks, timeout=PATIENCE_S)
        return self._found(began + load.warm_up_s, count)

    async def _ask(self, path: str, due: float) -> None:
        reader, writer = await self._free.get()
        told = f"Host: {self._host}\r\nAuthorization: Bearer {self._load.token}\r\n\r\n"
        writer.write(f"GET {path} HTTP/1.1\r\n{told}".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        self._seen.append((due, time.perf_counter() - due, int(head[9:12])))
        self._free.put_nowait((reader, writer))

    def _found(self, since: float, count: int) -> HttpFound:
        mine = [one for one in self._seen if one[0] >= since]
        statuses: dict[int, int] = {}
        for _, _, status in mine:
            statuses[status] = statuses.get(status, 0) + 1
        planned = int(count * self._load.seconds / (self._load.seconds + self._load.warm_up_s))
        if missing := planned - len(mine):
            statuses[0] = max(0, missing)
        good = [seconds * 1e3 for _, seconds, status in mine if status == 200]
        p50, p95, p99 = np.percentile(good, [50, 95, 99]).tolist() if good else (float("nan"),) * 3
        return HttpFound(p50, p95, p99, planned, statuses, len(good) / self._load.seconds)


def load_http(load: HttpLoad) -> HttpFound:
    """Run one in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.http_load"],
        input=msgspec.json.encode(load),
        capture_output=True,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=HttpFound)


def main() -> None:
    """As a process."""
    load: Any = msgspec.json.decode(sys.stdin.buffer.read(), type=HttpLoad)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(Generator(load).run())))


if __name__ == "__main__":
    main()

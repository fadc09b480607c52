"""How long a served model takes, and how many rows it answers, asked by several clients at once."""

from __future__ import annotations

import threading
import time

import numpy as np
from msgspec import Struct

from exporters import probes
from exporters.formats.tensors import Arrays
from exporters.release.triton_client import TritonServer
from trading.models.signature import ModelSignature


class Measured(Struct, frozen=True):
    """Of one load: latency in milliseconds, rows answered a second."""

    clients: int
    batch: int
    p50_ms: float
    p99_ms: float
    rows_per_s: float
    calls: int


def measure(
    address: str, signature: ModelSignature, version: int, *, clients: int, batch: int, seconds: float
) -> Measured:
    """Closed loop: each client asks again as soon as it is answered. Raises what a client's call raises."""
    arrays = probes.first_rows(probes.golden(signature, min(batch, signature.max_batch_size)), batch)
    took: list[list[float]] = [[] for _ in range(clients)]
    failed: list[BaseException] = []
    start = threading.Barrier(clients + 1)
    threads = [
        threading.Thread(
            target=_client, args=(address, signature, version, arrays, seconds, start, took[k], failed), daemon=True
        )
        for k in range(clients)
    ]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - began
    if failed:
        raise failed[0]
    times = np.concatenate([np.array(t) for t in took]) * 1e3
    return Measured(
        clients,
        batch,
        float(np.percentile(times, 50)),
        float(np.percentile(times, 99)),
        len(times) * batch / elapsed,
        len(times),
    )


def _client(
    address: str,
    signature: ModelSignature,
    version: int,
    arrays: Arrays,
    seconds: float,
    start: threading.Barrier,
    took: list[float],
    failed: list[BaseException],
) -> None:
    server = TritonServer(address)
    try:
        run = server.run(signature, version)
        for _ in range(5):
            run(arrays)
        start.wait()
        end = time.perf_counter() + seconds
        while (before := time.perf_counter()) < end:
            run(arrays)
            took.append(time.perf_counter() - before)
    except BaseException as error:  # noqa: BLE001 (told to the caller in its own thread)
        failed.append(error)
        start.abort()
    finally:
        server.close()


class Compared(Struct, frozen=True):
    """Two models under the same load, asked in turns."""

    batch: int
    a: Measured
    b: Measured

    @property
    def ratio_p50(self) -> float:
        """A over b: above 1, b is faster."""
        return self.a.p50_ms / self.b.p50_ms


def compare(
    address: str,
    a: tuple[ModelSignature, int],
    b: tuple[ModelSignature, int],
    *,
    batch: int,
    seconds: float,
    clients: int = 1,
) -> Compared:
    """Alternate between two versions, so that a noisy machine disturbs both alike; the best turn counts."""
    turns = 6
    found: tuple[list[Measured], list[Measured]] = ([], [])
    for _ in range(turns // 2):
        for k, (signature, version) in enumerate((a, b)):
            found[k].append(
                measure(address, signature, version, clients=clients, batch=batch, seconds=seconds / turns)
            )
    best = [min(rows, key=lambda m: m.p50_ms) for rows in found]
    return Compared(batch, best[0], best[1])

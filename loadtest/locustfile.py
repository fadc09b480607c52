"""Run: locust -f loadtest/locustfile.py --headless -u 4 -t 30s --host 127.0.0.1:8001.

Exits 1 when a target is missed: p99 within 50 ms, no more than 0.1 % errors, at least 100 samples.
"""

from __future__ import annotations

from typing import Any

from locust import events
from locust.runners import WorkerRunner

from loadtest.gates import TARGET, misses
from loadtest.users import TritonGrpcUser

__all__ = ["TritonGrpcUser"]


@events.quitting.add_listener
def judge(environment: Any, **_: Any) -> None:
    """Set the exit code, on the master only: a worker sees a part."""
    if isinstance(environment.runner, WorkerRunner):
        return
    total = environment.stats.total
    missed = misses(
        samples=total.num_requests,
        failures=total.num_failures,
        p99_ms=total.get_response_time_percentile(0.99) or 0.0,
    )
    for line in missed:
        print(f"missed: {line}")
    if not missed:
        print(f"all targets held: p99 within {TARGET.p99_ms:.0f} ms over {total.num_requests} requests")
    environment.process_exit_code = 1 if missed else 0

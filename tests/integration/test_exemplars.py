"""From a latency to its trace: a real Prometheus asks a gateway's endpoint, and keeps the exemplars that it tells."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from gateway.adapters.admin import AdminPort, AdminServer, Health
from gateway.adapters.metrics import PrometheusMetrics
from stack.servers import prometheus
from stack.servers.settings import ServerPorts, StackSettings
from stack.watching.boards import TRACED
from tests.waiting import eventually

TRACE, OTHER = "0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c80319c"


@contextmanager
def gateway(port):
    """An admin endpoint that tells three latencies, two of them traced."""
    metrics, well = PrometheusMetrics(), Health(True, [])
    metrics.sent_to_decided.observe_all(np.array([0.004, 0.0042, 0.2]))
    metrics.traced({OTHER: 0.2, TRACE: 0.0042}, time.time_ns())
    server = AdminServer("127.0.0.1", port, "secret")
    try:
        server.serve(AdminPort(lambda: well, lambda: well, dict, lambda *_: "", metrics.registry))
        yield
    finally:
        server.close()


@contextmanager
def scraping(settings):
    service = prometheus.service(settings)
    service.prepare()
    process = subprocess.Popen(list(service.command()), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{settings.ports.prometheus}/api/v1"
    finally:
        process.terminate()
        process.wait(10)


def told(address, what, **asked):
    """What Prometheus answers; nothing while it starts."""
    try:
        return httpx.get(f"{address}/{what}", params=asked, timeout=5).raise_for_status().json()["data"]
    except httpx.HTTPError:
        return []


@pytest.mark.skipif(prometheus.program() is None, reason="no Prometheus here (Debian: prometheus)")
def test_prometheus_keeps_the_traces_of_latencies(tmp_path):
    settings = StackSettings(home=tmp_path, ports=ServerPorts.automatic(), profile="desk")
    with gateway(settings.ports.gateway_metrics), scraping(settings) as address:
        now = time.time()
        found = eventually(
            lambda: told(address, "query_exemplars", query=f"{TRACED}_bucket", start=now - 60, end=now + 60), 30
        )
    exemplars = {
        series["seriesLabels"]["le"]: (one["labels"], float(one["value"]))
        for series in found
        for one in series["exemplars"]
    }
    assert exemplars == {"0.005": ({"trace_id": TRACE}, 0.0042), "0.25": ({"trace_id": OTHER}, 0.2)}

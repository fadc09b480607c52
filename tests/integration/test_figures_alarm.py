"""Alerts that one machine without a GPU cannot cause: a real Prometheus reads their figures from a small exporter."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stack.drill.alarms import Alarms
from stack.drill.receiver import receiving
from stack.servers import prometheus
from stack.servers.server import NotReady
from stack.servers.settings import ServerPorts, StackSettings
from stack.watching import alerting, alerts, scraping
from tests.waiting import eventually

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        prometheus.program() is None or prometheus.alertmanager_program() is None,
        reason="no Prometheus and Alertmanager here (Debian: prometheus prometheus-alertmanager)",
    ),
]
#: Of each alert: a series, what it is on a healthy desk, and what it is when something is wrong.
FIGURES = {
    "Drawdown": ('gateway_book_drawdown{partition="0"}', 0.02, 0.25),
    "TritonAway": ('gateway_triton_up{address="a:8001"}', 1, 0),
    "BrokerDown": ("kafka_brokers", 3, 2),
    "UnderReplicated": ('kafka_topic_partition_under_replicated_partition{topic="t",partition="0"}', 0, 1),
    "MachineMemory": ("node_memory_MemAvailable_bytes", 12e9, 6e8),
    "KernelOutOfMemory": ("node_vmstat_oom_kill", 2, 3),
    "ClockSkew": ("node_timex_maxerror_seconds", 0.9, 4),
    "GpuMemory": ('DCGM_FI_DEV_FB_USED{gpu="0"}', 6000, 11800),
    "GpuTemperature": ('DCGM_FI_DEV_GPU_TEMP{gpu="0"}', 61, 91),
    "CertificateExpiring": ('ultrathink_certificate_expiry_timestamp_seconds{certificate="ca.crt"}', 4e9, 1.6e9),
    "TrailUnverified": ("forensics_verified_timestamp_seconds", time.time(), 1.6e9),
    "ModelParity": ('ultrathink_model_parity_max_abs_difference{model="m"}', 1e-7, 0.4),
    "ExperimentStopped": ('experiments_stops_total{experiment="fresh",why="harm"}', 0, time.time),
    "ExperimentUnwatched": ('experiments_watched{experiment="fresh",where="desk"}', 1, 0),
    "OrchestratorWaiting": ("orchestrator_waiting", 0, 1),
    "RunFailed": ('orchestrator_runs_ended_1d{verdict="failed"}', 0, time.time),
    "RunStarved": ("orchestrator_oldest_ready_seconds", 4, 7_200),
    "TrainingOutOfMemory": ("orchestrator_steps_out_of_memory_total", 0, time.time),
    "DriftFound": ('orchestrator_found{kind="drift"}', 0, 1),
    "ModelTakenBack": ("orchestrator_taken_back_1d", 0, time.time),
    "ReleaseOpen": ('ultrathink_releases_total{action="release",end="open"}', 0, 1),
}
#: What stays as it is.
BESIDE = {
    "process_start_time_seconds": 1e9, "node_memory_MemTotal_bytes": 24e9, "node_timex_sync_status": 1, 'DCGM_FI_DEV_FB_FREE{gpu="0"}': 500,
}  # fmt: skip


class Exporter:
    """Tells figures; `wrong` says which ones."""

    def __init__(self):
        self.address, self.wrong = "", False

    def text(self):
        series = {name: bad if self.wrong else good for name, good, bad in FIGURES.values()} | BESIDE
        # One that grows: within these seconds nobody is told of a warning that has passed again.
        series = {name: value() if callable(value) else value for name, value in series.items()}
        return "".join(f"{name} {value}\n" for name, value in series.items())


@pytest.fixture
def exporter():
    found = Exporter()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(found.text().encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def started(service):
    process = subprocess.Popen(list(service.command()), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: answers(service), 30)
        yield
    finally:
        process.terminate()
        process.wait(10)


def answers(service):
    try:
        return service.probe()
    except NotReady:
        return ""


def at_once(rules):
    """How long each must last, and is told of after it, is promtool's to try; here nobody waits for it."""
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["for"] = "0s"
            rule["expr"] = rule["expr"].replace("[10m]", "[15s]")
    return rules


def test_each_fires_is_told_and_clears(exporter, tmp_path):
    wanted = {one.name for one in alerts.ALERTS if one.tried == "figures"}
    assert wanted == set(FIGURES)
    with receiving() as told:
        settings = StackSettings(home=tmp_path, ports=ServerPorts.automatic(), alert_webhook=told.address)
        watch, tell = prometheus.service(settings), prometheus.alertmanager(settings)
        watch.prepare()
        tell.prepare()
        folder = tmp_path / "prometheus"
        (folder / "alerts.yml").write_text(json.dumps(at_once(alerting.rules())))
        receiver = f"127.0.0.1:{settings.ports.alertmanager}"
        configuration = scraping.configuration({"drill": exporter.address}, receiver, str(folder / "alerts.yml"))
        (folder / "prometheus.yml").write_text(json.dumps(configuration))
        alarms = Alarms(settings, told)
        with started(tell), started(watch):
            eventually(lambda: alarms.ask("kafka_brokers == 3"), 30)
            # What is right, for a while: two looks of the rules.
            time.sleep(10)
            assert alarms.firing() & wanted == set()
            began, exporter.wrong = time.time(), True
            heard = alarms.wait_until_told(wanted, began, 60.0, lambda _: None)
            assert [one.alert for one in heard.values() if not one.ok] == []
            exporter.wrong = False
            quiet = alarms.wait_until_quiet(wanted, 60.0, lambda _: None)
            assert [name for name, seconds in quiet.items() if seconds is None] == []

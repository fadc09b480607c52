"""Training stands still while the desk is slow: a real process, stopped and gone on with, by a gateway's metrics."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stack.workflows.orchestrator.latency import GatewayLatency
from tests.databases import running_postgres
from tests.orchestrated import opened, orchestrator
from tests.waiting import eventually
from trainers.orchestrator.executors.local import place_of, stat_of
from trainers.orchestrator.migrations import prepare
from trainers.orchestrator.runs import RunRequest
from trainers.orchestrator.store.runs import LEASE_S


class Desk(ThreadingHTTPServer):
    """Tells what a gateway tells of its ticks: 500 more with each look, quick or slow."""

    def __init__(self):
        self.slow, self.counts = False, [0, 0]
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def text(self):
        self.counts[self.slow] += 500
        quick, total = self.counts[0], sum(self.counts)
        return (
            "# TYPE gateway_tick_seconds histogram\n"
            f'gateway_tick_seconds_bucket{{le="0.01"}} {quick}\ngateway_tick_seconds_bucket{{le="0.1"}} {total}\n'
            f'gateway_tick_seconds_bucket{{le="+Inf"}} {total}\ngateway_tick_seconds_count {total}\n'
            "gateway_tick_seconds_sum 1\n"
        )


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.server.text().encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def desk():
    with Desk() as one:
        yield one
        one.shutdown()


def test_p99_is_that_of_the_last_ticks(desk):
    latency = GatewayLatency(f"http://127.0.0.1:{desk.server_port}/metrics")
    assert latency.p99_ms() is None
    assert 7.5 < latency.p99_ms() <= 10.0
    desk.slow = True
    assert 75.0 < latency.p99_ms() <= 100.0


def test_where_nobody_answers_nobody_knows():
    assert GatewayLatency("http://127.0.0.1:9/metrics").p99_ms() is None


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_step_stands_still_while_the_desk_is_slow_and_ends_when_it_is_quick_again(desk, tmp_path):
    with running_postgres(tmp_path) as settings:
        url = settings.postgres_url("orchestrator")
        prepare(url)
        folder = tmp_path / "work"
        folder.mkdir()
        with opened(url) as store, orchestrator(url, folder, 6_000, 4, desk.server_port):
            request = RunRequest(kind="trial", spec={"folder": str(folder), "work_s": 6.0}, reason="x", by="tester")
            run = store.runs.submit(request)[0].id
            attempt = eventually(lambda: (a := store.runs.attempts(run)) and a[0].reference and a[0], 60)
            pid = place_of(attempt.reference).pid
            desk.slow = True
            eventually(lambda: stat_of(pid)[0] == "T", 40)
            # Longer than its lease: that is renewed for it, and it is not taken for one that hangs, by itself neither.
            time.sleep(LEASE_S + 3.0)
            assert stat_of(pid)[0] == "T"
            desk.slow = False
            one = eventually(lambda: (found := store.runs.get(run)).ended_s and found, 90)
        assert one.verdict == "succeeded"
        assert one.fence == 1

"""What is told of trainings, from what MLflow's REST API answers."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from services.metrics.trainings import AGAIN_S, EVERY_S, RunInfo, TrainingsSource, families
from tests.unit.services.metrics.test_sources import text_of
from trading.errors import ConfigurationError, ServiceUnavailable


def run(status, begin_s=1000, took_s=None):
    return RunInfo(status, begin_s * 1000, None if took_s is None else (begin_s + took_s) * 1000)


def answer(*runs):
    return {"runs": [{"info": msgspec.to_builtins(one)} for one in runs]}


def test_trainings_are_counted_and_the_last_of_each_end_is_told():
    text = text_of(
        families(
            [
                run("RUNNING"),
                run("RUNNING", 9000, 5),
                run("FINISHED", 5000, 90),
                run("FINISHED", 1000, 300),
                run("FAILED", 2000, 7),
                run("KILLED", 3000, 0),
                run("KILLED", 4000),
            ]
        )
    )
    for line in ('ultrathink_trainings{status="running"} 2.0', 'ultrathink_trainings{status="finished"} 2.0',
                 'ultrathink_trainings{status="killed"} 2.0', 'ultrathink_trainings{status="scheduled"} 0.0',
                 'ultrathink_training_last_end_timestamp_seconds{status="finished"} 5090.0',
                 'ultrathink_training_last_seconds{status="finished"} 90.0',
                 'ultrathink_training_last_seconds{status="failed"} 7.0'):  # fmt: skip
        assert line in text.splitlines()
    # One that was interrupted and goes on keeps the end of before.
    assert 'last_end_timestamp_seconds{status="running"}' not in text


def test_before_anybody_trained_there_are_none():
    assert 'ultrathink_trainings{status="finished"} 0.0' in text_of(families([]))


@pytest.fixture
def mlflow():
    """Somebody who answers as told: path -> (status, body)."""
    answers, asked = {"health": (200, b"OK"), "get-by-name": (200, {"experiment": {"experiment_id": "7"}})}, []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((self.path.partition("?")[0].rpartition("/")[2], body))
            code, told = answers[asked[-1][0]]
            self.send_response(code)
            self.end_headers()
            self.wfile.write(told if isinstance(told, bytes) else json.dumps(told).encode())

        def do_GET(self):
            self.do_POST()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", answers, asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_mlflow_is_asked_for_trainings_alone_and_once_a_minute(mlflow):
    address, answers, asked = mlflow
    answers["search"] = (200, answer(run("FINISHED", 1000, 60)))
    now = [0.0]
    source = TrainingsSource(address, lambda: now[0])
    assert 'status="finished"} 1.0' in text_of(source.look())
    given = json.loads(asked[2][1])
    assert given["experiment_ids"] == ["7"]
    assert given["filter"] == "tags.kind = 'training'"
    answers["search"] = (200, {})
    now[0] = EVERY_S - 1
    assert 'status="finished"} 1.0' in text_of(source.look())
    assert [what for what, _ in asked] == ["health", "get-by-name", "search", "health"]
    now[0] = EVERY_S
    assert 'status="finished"} 0.0' in text_of(source.look())
    source.close()


@pytest.mark.parametrize("what", ["get-by-name", "search"])
@pytest.mark.parametrize(
    "wrong",
    [(500, {}), (404, {}), (404, b"<html>"), (200, b"no json"), (200, []), (200, {"runs": [{"info": {}}]}),
     (200, {"runs": [{"info": {"status": "FINISHED", "start_time": "x"}}]}), (200, {"runs": None})],
)  # fmt: skip
def test_what_cannot_be_understood_is_not_taken_for_no_trainings(mlflow, what, wrong):
    address, answers, asked = mlflow
    answers["search"] = (200, {})
    answers[what] = wrong
    now = [0.0]
    source = TrainingsSource(address.replace("//", "//user:secret@"), lambda: now[0])
    for _ in range(3):
        with pytest.raises(ServiceUnavailable, match="MLflow cannot be looked at") as told:
            source.look()
        assert "secret" not in str(told.value)
    # It stays unseen, and is not asked at every look: a search that hangs holds a thread there.
    assert [name for name, _ in asked].count(what) == 1
    answers[what] = (200, {"experiment": {"experiment_id": "7"}} if what == "get-by-name" else {})
    now[0] = AGAIN_S
    assert 'status="finished"} 0.0' in text_of(source.look())
    source.close()


def test_an_mlflow_that_dies_between_two_searches_is_not_seen(mlflow):
    address, answers, _ = mlflow
    answers["search"] = (200, {})
    source = TrainingsSource(address)
    source.look()
    answers["health"] = (503, b"")
    with pytest.raises(ServiceUnavailable, match="/health: HTTP 503"):
        source.look()
    source.close()


def test_who_has_never_trained_has_no_experiment(mlflow):
    address, answers, _ = mlflow
    answers["get-by-name"] = (404, {"error_code": "RESOURCE_DOES_NOT_EXIST"})
    source = TrainingsSource(address)
    assert 'status="finished"} 0.0' in text_of(source.look())
    source.close()


@pytest.mark.parametrize(
    "address",
    ["http://user:secret@a:port", "127.0.0.1:5000", "secret", "file:///secret", " http://secret", "http://"],
)
def test_an_address_that_is_none_is_named_and_not_shown(address):
    with pytest.raises(ConfigurationError, match="ULTRATHINK_METRICS_MLFLOW_URI") as told:
        TrainingsSource(address)
    assert "secret" not in str(told.value)


def test_a_companys_own_certificates_are_trusted_where_everybody_looks_for_them(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    source = TrainingsSource("https://mlflow.example")
    context = source._client._transport._pool._ssl_context
    assert context.cert_store_stats()["x509_ca"] == 0
    source.close()

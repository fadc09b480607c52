"""The stack over HTTP: who may ask, what is refused by name, and what is done."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from exporters.target.findings import Finding
from stack.api.application import Desk, application, events
from stack.api.operations import Operations
from stack.servers.identity import Identity
from stack.supervision.status import READY, ServiceStatus, StackStatus
from tests.local_client import LocalClient
from tests.unit.stack.api.test_operations import PROGRAM

TOKEN = "a-token-for-tests"
KNOWN = {"Authorization": f"Bearer {TOKEN}"}
ASKED = {"reason": "a test", "by": "me"}
#: It says which words it was called with, and ends as the doctor does where all fits.
ECHO = "import json, sys; print(json.dumps(sys.argv[1:]))"


def status_of(home):
    rows = [ServiceStatus("gateway", READY, version="1"), ServiceStatus("redis", "starting", degraded=["x"])]
    return StackStatus(Identity(1, 0.0), rows, time.time(), ["the disk is nearly full"], "desk")


@pytest.fixture
def asking(tmp_path):
    """Makes clients of a desk; all are closed at the end."""
    opened = []

    def make(program=ECHO, token=TOKEN, headers=KNOWN, status=lambda: status_of(tmp_path)):
        operations = Operations(tmp_path, [sys.executable, "-c", program])
        finding = Finding("ports", "does not fit", "9092 is held", "end that")
        desk = Desk(tmp_path, status, lambda: [finding], operations)
        opened.append((LocalClient(application(desk, token), headers), operations))
        return opened[-1][0]

    yield make
    for client, operations in opened:
        operations.close()
        client.close()


@pytest.fixture
def client(asking, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "gateway.log").write_text("".join(f"line {k}\n" for k in range(300)))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "redis.log").write_text("a password")
    return asking()


def test_nothing_but_health_and_the_document_is_told_without_the_token(asking):
    client = asking(headers={})
    asked = 0
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            for told in (None, "Bearer wrong", TOKEN, f"bearer {TOKEN}", "Bearer é"):
                headers = {} if told is None else {"Authorization": told.encode()}
                found = client.request(method, path.replace("{name}", "gateway"), headers=headers, json=ASKED)
                assert found.status_code == (200 if path == "/v1/health" else 401), (method, path)
                asked += 1
    assert asked > 50


def test_without_a_token_of_its_own_it_refuses_everybody(asking):
    assert asking(token="", headers={"Authorization": "Bearer "}).get("/v1/status").status_code == 401


def test_the_matrix_says_how_old_it_is(client):
    found = client.get("/v1/status").json()
    assert [s["name"] for s in found["services"]] == ["gateway", "redis"]
    assert found["services"][1]["degraded"] == ["x"]
    assert found["problems"] == ["the disk is nearly full"]
    assert 0 <= found["age_s"] < 5
    # Its supervisor, process 1 of another start, does not run.
    assert (found["ready"], found["alive"]) == (False, False)


def test_where_nothing_runs_that_is_said(asking):
    found = asking(status=lambda: None).get("/v1/status")
    assert found.status_code == 503
    assert "ultrathink stack up" in found.json()["detail"]


def test_a_log_is_read_by_its_name_and_by_no_other(client):
    assert client.get("/v1/services/gateway/logs?lines=2").json()["lines"] == ["line 298", "line 299"]
    for name in ("..%2Fsecrets%2Fredis", "%2e%2e%2fsecrets%2fredis", "nothing", "gateway%00"):
        assert client.get(f"/v1/services/{name}/logs").status_code == 404


def test_a_log_is_followed_across_its_rotation(tmp_path):
    path = tmp_path / "one.log"
    path.write_text("old\n")

    async def follow():
        found, stream = [], events(path, 1)
        found.append(await anext(stream))
        with path.open("a") as log:
            log.write("new\nhalf")
        found.append(await anext(stream))
        path.write_text("")
        path.write_text("x\n")
        found.append(await anext(stream))
        await stream.aclose()
        return found

    assert asyncio.run(follow()) == ["data: old\n\n", "data: new\n\n", "data: x\n\n"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("services/gateway/restart", {}, [["stack", "restart", "--reason", "a test", "--json", "--", "gateway"]]),
        (
            "models/trading_decision/release", {"version": 4},
            [["export", "doctor", "--json"],
             ["export", "release", "--reason", "a test (over HTTP, by me)", "--json", "--", "trading_decision", "4"]],
        ),
        (
            "models/trading_decision/rollback", {"to": 3},
            [["export", "doctor", "--json"],
             ["export", "rollback", "--to", "3", "--reason", "a test (over HTTP, by me)", "--json", "--",
              "trading_decision"]],
        ),
        (
            "loadtests", {"kind": "triton", "speed": "poisson:100/s", "duration": "5s", "confirm": True},
            [["loadtest", "triton", "--speed", "poisson:100/s", "--duration", "5s", "--json"]],
        ),
        (
            "experiments/fresh/ramp", {"to": 0.25, "by": "me"},
            [["experiment", "ramp", "--reason", "a test (over HTTP, by me)", "--to", "0.25", "--json", "--", "fresh"]],
        ),
        (
            "experiments/fresh/stop", {},
            [["experiment", "stop", "--reason", "a test (over HTTP, by me)", "--json", "--", "fresh"]],
        ),
        (
            "experiments/fresh/promote", {"override": "M. Keynes"},
            [["experiment", "promote", "--reason", "a test (over HTTP, by me)", "--override", "M. Keynes", "--json", "--", "fresh"]],
        ),
    ],
)  # fmt: skip
def test_what_is_asked_for_is_one_of_our_commands(client, path, body, words):
    found = client.post(f"/v1/{path}?wait_s=30", json=ASKED | body)
    assert found.status_code == 202, found.text
    assert (found.json()["state"], found.json()["results"]) == ("done", words)
    assert client.get(f"/v1/operations/{found.json()['id']}").json() == found.json()
    assert client.get("/v1/operations").json()[0] == found.json()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("services/nothing/restart", ASKED, 404),
        ("services/--help/restart", ASKED, 404),
        ("services/gateway/restart", {}, 422),
        ("services/gateway/restart", {"reason": ""}, 422),
        ("services/gateway/restart", ASKED | {"force": True}, 422),
        ("models/--json/release", ASKED | {"version": 1}, 422),
        ("models/m/release", ASKED | {"version": 0}, 422),
        ("models/m/release", ASKED | {"version": "1; rm"}, 422),
        ("loadtests", ASKED, 409),
        ("experiments/--help/stop", ASKED, 422),
        ("experiments/fresh/ramp", ASKED | {"to": 1.5}, 422),
        ("experiments/fresh/promote", ASKED | {"override": "--json"}, 422),
        ("experiments", ASKED, 422),
        ("loadtests", ASKED | {"confirm": True, "speed": "--help"}, 422),
        ("loadtests", ASKED | {"confirm": True, "duration": "1m\n"}, 422),
    ],
)
def test_what_is_not_to_be_done_is_refused(client, path, body, status):
    assert client.post(f"/v1/{path}", json=body).status_code == status
    assert client.get("/v1/operations").json() == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("experiments/fresh/stop", b'{"reason": "a\\ud800"}'),
        ("experiments/fresh/stop", b'{"reason": "a test", "by": "\\udfff"}'),
        ("experiments", b'{"reason": "a test", "definition": "a\\ud800"}'),
        ("experiments/fresh/ramp", b'{"reason": "a test", "to": NaN}'),
        ("experiments/fresh/stop", b"\xff\xfe"),
    ],
)
def test_what_is_no_text_is_refused_and_not_sent_back(client, path, body):
    found = client.post(f"/v1/{path}", content=body, headers={"Content-Type": "application/json"})
    assert found.status_code in {400, 422}
    assert found.json()["detail"]


def test_a_folder_that_cannot_be_written_is_a_sentence(client, tmp_path):
    (tmp_path / "experiment-requests").write_text("in the way")
    found = client.post("/v1/experiments", json=ASKED | {"definition": "name: x"})
    assert found.status_code == 503
    assert "cannot be written" in found.json()["detail"]


def test_an_experiment_that_is_sent_is_read_from_a_file_of_its_content(client, tmp_path):
    found = client.post("/v1/experiments?wait_s=30", json=ASKED | {"definition": "name: ../../etc/passwd"}).json()
    ((*words, file),) = found["results"]
    assert words == ["experiment", "create", "--reason", "a test (over HTTP, by me)", "--json", "--"]
    assert Path(file).parent == tmp_path / "experiment-requests"
    assert Path(file).read_text() == "name: ../../etc/passwd"
    # Of what was sent, a day is kept.
    day_before = time.time() - 90_000.0
    os.utime(file, (day_before, day_before))
    # Somebody else's, and what is no file.
    mine, folder = Path(file).with_name("mine.yaml"), Path(file).with_name(f"{'0' * 32}.yaml")
    mine.write_text("mine")
    folder.mkdir()
    for one in (mine, folder):
        os.utime(one, (day_before, day_before))
    client.post("/v1/experiments?wait_s=30", json=ASKED | {"definition": "name: newer"})
    client.post("/v1/experiments?wait_s=30", json=ASKED | {"definition": "name: newest"})
    kept = [one.read_text() for one in (tmp_path / "experiment-requests").iterdir() if one.is_file()]
    assert sorted(kept) == ["mine", "name: newer", "name: newest"]
    assert folder.is_dir()


def test_an_operation_that_runs_can_be_cancelled_and_keeps_others_of_its_kind_away(asking):
    client = asking(program=PROGRAM + "time.sleep(60)")
    first = client.post("/v1/services/gateway/restart", json=ASKED).json()
    second = client.post("/v1/services/gateway/restart", json=ASKED)
    assert second.status_code == 409
    assert first["id"] in second.json()["detail"]
    assert client.request("DELETE", f"/v1/operations/{first['id']}").status_code == 204
    assert client.get(f"/v1/operations/{first['id']}?wait_s=30").json()["state"] == "cancelled"
    assert client.request("DELETE", "/v1/operations/nothing").status_code == 404


def test_the_doctor_is_asked(client):
    assert client.get("/v1/doctor").json()[0]["way_out"] == "end that"


def test_the_runbook_is_read(client):
    assert "NoDecisions" in [one["name"] for one in client.get("/v1/runbook").json()]
    assert client.get("/v1/runbook/NoDecisions").json()["page"].startswith("# NoDecisions")
    for name in ("Nothing", "..%2f..%2fREADME", "NoDecisions.md"):
        assert client.get(f"/v1/runbook/{name}").status_code == 404

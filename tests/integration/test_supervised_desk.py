"""The whole desk under one supervisor: without a model it waits, with one it decides, and whatever is killed comes back."""

from __future__ import annotations

import json
import os
import shutil
import signal

import httpx
import pytest
from typer.testing import CliRunner

from exporters.repository.repository import ModelRepository
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from loadtest.open_loop.watcher import DecisionWatcher
from stack.cli.main import app
from stack.servers.settings import ServerPorts, StackSettings
from stack.supervision.lifecycle import up
from stack.supervision.orphans import left_behind
from stack.supervision.status import READY, read_status
from tests.stacks import running_stack
from tests.waiting import eventually
from trading.errors import ConfigurationError
from trading.history import open_source

pytestmark = pytest.mark.slow
CLI = CliRunner()
OURS = ("gateway", "paper-broker", "forensics", "data")
BACK_S = 10.0


@pytest.fixture(scope="module")
def desk(stack, exported, tmp_path_factory):
    """A desk of its own, at first without a model; `released` brings the models of the session's stack."""
    home = tmp_path_factory.mktemp("desk")
    settings = StackSettings(
        home=home, ports=ServerPorts.automatic(), model_repository=home / "models",
        desk={"ULTRATHINK_GATEWAY_BUDGET_MS": "20000", "ULTRATHINK_GATEWAY_SHED_BELOW_MS": "0"},
    )  # fmt: skip
    with running_stack(settings):
        yield settings


@pytest.fixture(scope="module")
def released(desk, stack):
    """What is released there is released here: the files, and a server that reads them anew."""
    shutil.copytree(stack.model_repository, desk.model_repository, dirs_exist_ok=True)
    ran("stack", "restart", "triton", "--reason", "new models")
    eventually(lambda: row(desk, "gateway").state == READY)
    return desk


def ran(*words):
    done = CLI.invoke(app, list(words))
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def row(settings, name):
    status = read_status(settings.absolute_home)
    assert status is not None
    return next(s for s in status.services if s.name == name)


def publish(settings, ticks, seed):
    source = open_source(f"simulate:regimes?seed={seed}&ticks={ticks}&symbols=3")
    return TickPublisher(settings.kafka_bootstrap, "market.ticks").publish(
        plan(source.records(), Speed("constant", rate_hz=500.0))
    )


def decided(settings, ticks, seed):
    """Ticks that are sent, and the decisions that come of them."""
    watcher = DecisionWatcher(settings.kafka_bootstrap, "trading.decisions")
    try:
        published = publish(settings, ticks, seed)
        watcher.wait_for(published.intended_ns, 30.0, lambda _: None)
        return watcher.decisions()
    finally:
        watcher.close()


def test_without_a_model_the_gateway_waits_and_the_rest_is_there(desk):
    gateway = row(desk, "gateway")
    assert gateway.held.startswith("no model")
    assert gateway.process is None
    assert all(row(desk, name).state == READY for name in OURS[1:])
    status = CLI.invoke(app, ["stack", "status"])
    assert status.exit_code == 1
    assert "gateway waits: no model" in " ".join(status.output.split())
    # It is no failure: `up` is done.
    assert up(desk, lambda _: None).settled


def test_with_a_model_it_decides_and_all_is_on_record(released):
    decisions = decided(released, 600, 5)
    assert len(decisions) == 600
    found = json.loads(ran("stack", "status", "--json"))
    assert found["ready"]
    assert all(s["cpu_percent"] >= 0 and s["version"] for s in found["services"])
    assert {s["name"] for s in found["services"]} >= {*OURS, "kafka-1", "redis", "postgres", "mlflow", "triton"}
    verified = CLI.invoke(app, ["forensics", "verify", "--json"])
    assert verified.exit_code == 0, verified.output


@pytest.mark.parametrize("name", OURS)
def test_a_process_of_ours_that_is_killed_is_back_and_decides_each_tick_once(released, name):
    before = row(released, name)
    os.kill(before.process.pid, signal.SIGKILL)
    eventually(lambda: row(released, name).restarts > before.restarts, BACK_S)
    eventually(lambda: row(released, name).state == READY, 3 * BACK_S)
    assert "137" in row(released, name).last_exit
    decisions = decided(released, 200, 20 + OURS.index(name))
    assert len({d.decision_id for d in decisions}) == len(decisions) == 200


def test_who_works_worse_without_another_says_so(released):
    pid = row(released, "redis").process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: any("redis" in why.lower() for why in row(released, "gateway").degraded), 30)
        told = CLI.invoke(app, ["stack", "status"]).output
        assert "gateway is degraded" in told
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: row(released, "gateway").degraded == [], 30)


def test_a_killed_supervisor_leaves_all_running_and_the_next_start_takes_it_over(released):
    home = released.absolute_home
    before = read_status(home)
    os.kill(before.supervisor.pid, signal.SIGKILL)
    eventually(lambda: before.supervisor.find() is None)
    assert {s.name for s in before.services} == {name for name, _ in left_behind(home)}
    # Nothing is down meanwhile: ticks are decided while nobody supervises.
    assert len(decided(released, 100, 40)) == 100
    after = up(released, lambda _: None)
    assert after.supervisor != before.supervisor
    assert {s.name: s.process for s in after.services} == {s.name: s.process for s in before.services}
    # What was adopted is watched: its end is seen.
    process = row(released, "data").process
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: row(released, "data").state == READY and row(released, "data").process != process, 30)


def test_a_profile_changes_while_it_runs_and_other_settings_do_not(released):
    gateway = row(released, "gateway").process
    ran("stack", "up", "--profile", "servers")
    # What it ends is gone when it returns, and the rest is ready.
    assert json.loads(ran("stack", "status", "--json"))["ready"]
    kafka = row(released, "kafka-1").process
    ran("stack", "up", "--profile", "desk")
    assert gateway.find() is None
    assert row(released, "gateway").process != gateway
    assert row(released, "gateway").state == READY
    assert row(released, "kafka-1").process == kafka
    refused = CLI.invoke(app, ["stack", "up", "--brokers", "3"])
    assert isinstance(refused.exception, ConfigurationError)
    # What was chosen for the desk at its first start holds for the gateway that was started now.
    environment = row(released, "gateway").process.find().environ()
    assert environment["ULTRATHINK_GATEWAY_BUDGET_MS"] == "20000"
    assert environment["ULTRATHINK_GATEWAY_EXECUTION"] == "broker"


def test_a_restart_of_what_is_not_there_names_what_is(released):
    refused = CLI.invoke(app, ["stack", "restart", "gatway"])
    assert isinstance(refused.exception, ConfigurationError)
    assert "gateway" in str(refused.exception)


def test_the_doctor_finds_nothing_that_stops_a_stack_that_runs(released):
    found = {f["check"]: f for f in json.loads(ran("stack", "doctor", "--json"))}
    assert found["ports"]["seen"] == "held by the stack that is up"
    assert {f["verdict"] for f in found.values()} <= {"fits", "cannot tell"}


def test_logs_of_each_can_be_read(released):
    for name in (*OURS, "kafka-1", "supervisor"):
        ran("stack", "logs", name, "--lines", "5")
    refused = CLI.invoke(app, ["stack", "logs", "../secrets/redis"])
    assert isinstance(refused.exception, ConfigurationError)


def test_the_rest_of_a_desk_is_the_full_profile_and_it_answers_over_http(released):
    ran("stack", "up", "--profile", "full")
    assert row(released, "stack-http").state == READY
    token = released.secret("stack-token")
    with httpx.Client(
        base_url=row(released, "stack-http").endpoint, headers={"Authorization": f"Bearer {token}"}, timeout=120
    ) as http:
        assert http.get("/v1/status").json()["ready"]
        assert "trading_decision" in http.get("/v1/models").text
        before = row(released, "paper-broker").process
        done = http.post(
            "/v1/services/paper-broker/restart?wait_s=60", json={"reason": "a drill", "by": "test"}
        ).json()
        assert (done["state"], done["exit_code"]) == ("done", 0), done
        assert row(released, "paper-broker").process != before
        assert row(released, "paper-broker").last_exit == "a drill"
        version = ModelRepository(released.model_repository).serving("regime_detection").versions[-1]
        path = "/v1/models/regime_detection/release?wait_s=100"
        again = http.post(path, json={"reason": "a drill", "version": version}).json()
        assert again["results"][0]["findings"], again
        absent = http.post(path, json={"reason": "a drill", "version": 99}).json()
        assert absent["state"] == "failed"
        assert "99" in " ".join(absent["log"])
        loaded = http.post(
            "/v1/loadtests?wait_s=100",
            json={"reason": "a drill", "kind": "triton", "speed": "50/s", "duration": "8s", "confirm": True},
        ).json()
        assert (loaded["state"], loaded["results"][0]["target"]) == ("done", "triton"), loaded["log"]
    ran("stack", "up", "--profile", "desk")

"""Health tells the truth with its status code; commands need the token."""

from __future__ import annotations

import time

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from gateway.adapters.admin import AdminPort, AdminServer, Health
from stack.servers.ports import free_ports
from trading.errors import ConfigurationError, ServiceUnavailable


class Gateway:
    def __init__(self):
        self.healthy, self.ready = Health(True, []), Health(False, ["draining"])
        self.commands = []

    def command(self, name, given):
        if name == "explode":
            raise ServiceUnavailable("Kafka: gone")
        if name != "halt":
            raise ValueError(f"{name!r} is no command")
        self.commands.append((name, given))
        return "halted"


@pytest.fixture
def gateway():
    return Gateway()


@pytest.fixture
def client():
    """Makes a client of a server of its own."""
    opened = []

    def make(gateway, token="secret"):
        registry = CollectorRegistry()
        Counter("gateway_things", "Things", registry=registry).inc()
        server = AdminServer("127.0.0.1", 0, token)
        opened.append(server)
        server.serve(
            AdminPort(
                lambda: gateway.healthy, lambda: gateway.ready, lambda: {"instance": "a"}, gateway.command, registry
            )
        )
        http = httpx.Client(base_url=f"http://127.0.0.1:{server.port}")
        opened.append(http)
        deadline = time.monotonic() + 20
        while True:
            try:
                http.get("/healthz")
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                return http

    yield make
    for each in reversed(opened):
        each.close()


def test_health_and_readiness_are_told_by_status_and_reason(gateway, client):
    http = client(gateway)
    assert http.get("/healthz").status_code == 200
    answer = http.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"ok": False, "problems": ["draining"]})
    gateway.ready = Health(True, [])
    assert http.get("/readyz").status_code == 200


def test_status_and_metrics_are_for_all(gateway, client):
    http = client(gateway)
    assert http.get("/status").json() == {"instance": "a"}
    assert "gateway_things_total 1.0" in http.get("/metrics").text


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}])
def test_a_command_without_the_token_is_refused(gateway, client, header):
    assert client(gateway).post("/commands/halt", json={"reason": "x"}, headers=header).status_code == 401
    assert gateway.commands == []


def test_without_a_configured_token_nobody_commands(gateway, client):
    answer = client(gateway, token="").post("/commands/halt", json={}, headers={"Authorization": "Bearer x"})
    assert answer.status_code == 403
    assert "ULTRATHINK_GATEWAY_ADMIN_TOKEN" in answer.json()["detail"]


def test_with_the_token_commands_are_carried_out_or_refused_with_a_sentence(gateway, client):
    http, header = client(gateway), {"Authorization": "Bearer secret"}
    assert http.post("/commands/halt", json={"reason": "x"}, headers=header).json() == {"done": "halted"}
    assert gateway.commands == [("halt", {"reason": "x"})]
    assert http.post("/commands/dance", headers=header).status_code == 422
    answer = http.post("/commands/explode", headers=header)
    assert (answer.status_code, answer.json()["detail"]) == (503, "Kafka: gone")


def test_a_port_that_is_taken_is_named():
    (port,) = free_ports(1)
    first = AdminServer("127.0.0.1", port, "")
    first._socket.listen()
    with pytest.raises(ConfigurationError, match=f"port {port} on 127.0.0.1"):
        AdminServer("127.0.0.1", port, "")
    first.close()


def test_metrics_are_openmetrics_for_who_asks_and_plain_text_for_the_rest(gateway, client):
    http = client(gateway)
    plain = http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert "gateway_things_total 1.0" in plain.text
    for odd in ("", "text/plain;version=x", "*/*;q=", ";;,,"):
        assert http.get("/metrics", headers={"Accept": odd}).text == plain.text
    for wanted in ("1.0.0,text/plain;q=0.5", "abc", "99999"):
        asked = http.get("/metrics", headers={"Accept": f"application/openmetrics-text;version={wanted}"})
        assert asked.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert asked.text.endswith("# EOF\n")

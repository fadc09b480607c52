"""A gateway that cannot be built leaves nothing open."""

from __future__ import annotations

import threading

import pytest

from connectors.logs import LogLevel
from gateway.bootstrap import build
from gateway.instance import Instance
from gateway.settings import GatewaySettings
from stack.servers.ports import free_ports, is_free
from trading.errors import ConfigurationError, ServiceUnavailable


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (port,) = free_ports(1)
    return GatewaySettings(kafka_bootstrap="127.0.0.1:1", metrics_port=port, instance="only")


def test_what_was_opened_is_closed_when_building_fails_half_way(settings):
    threads = set(threading.enumerate())
    with pytest.raises(ServiceUnavailable, match="Kafka at 127.0.0.1:1"):
        build(settings, LogLevel())
    assert is_free(settings.metrics_port)
    # Else: "already runs".
    Instance(settings.kafka_bootstrap, settings.group, "only").close()
    assert {t for t in threading.enumerate() if t.name in {"admin", "control"}} <= threads


def test_a_name_that_is_held_is_found_before_anything_is_asked(settings):
    held = Instance(settings.kafka_bootstrap, settings.group, "only")
    with pytest.raises(ConfigurationError, match="'only' already runs"):
        build(settings, LogLevel())
    assert is_free(settings.metrics_port)
    held.close()

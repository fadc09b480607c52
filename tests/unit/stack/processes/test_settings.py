"""Flags before the environment before the stack at home before defaults; for every process alike."""

from __future__ import annotations

import pytest

from gateway.settings import GatewaySettings
from services.forensics.settings import ForensicsSettings
from services.paper_broker.settings import BrokerSettings
from stack.processes import settings as module
from stack.processes.settings import broker_settings, forensics_settings, gateway_settings
from stack.servers.settings import load
from trading.errors import ConfigurationError

#: A process's settings, and the prefix of its variables.
PROCESSES = [
    (gateway_settings, GatewaySettings, "ULTRATHINK_GATEWAY_"),
    (broker_settings, BrokerSettings, "ULTRATHINK_BROKER_"),
    (forensics_settings, ForensicsSettings, "ULTRATHINK_FORENSICS_"),
]
every_process = pytest.mark.parametrize(("resolved", "kind", "prefix"), PROCESSES)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path))
    monkeypatch.setenv("ULTRATHINK_PORTS__KAFKA", "[29092]")
    return tmp_path


@pytest.fixture
def started(home, monkeypatch):
    """A stack that was started there."""
    monkeypatch.setattr(module, "is_started", lambda _: True)
    for role in ("redis", "postgres-ultrathink", "postgres-forensics", "postgres-reader", "gateway-admin"):
        module.ensure_secret(home, role)


@every_process
def test_where_nothing_is_started_defaults_hold(home, resolved, kind, prefix):
    assert kind.model_config["env_prefix"] == prefix
    assert resolved().kafka_bootstrap == kind.model_fields["kafka_bootstrap"].default


@every_process
@pytest.mark.usefixtures("started")
def test_the_stack_comes_before_defaults(resolved, kind, prefix):
    assert resolved().kafka_bootstrap == load().kafka_bootstrap == "127.0.0.1:29092"


@every_process
@pytest.mark.usefixtures("started")
def test_the_environment_comes_before_the_stack(monkeypatch, resolved, kind, prefix):
    monkeypatch.setenv(f"{prefix}KAFKA_BOOTSTRAP", "elsewhere:1")
    assert resolved().kafka_bootstrap == "elsewhere:1"


@every_process
@pytest.mark.usefixtures("started")
def test_flags_come_before_all_and_none_is_no_flag(monkeypatch, resolved, kind, prefix):
    monkeypatch.setenv(f"{prefix}KAFKA_BOOTSTRAP", "elsewhere:1")
    assert resolved(kafka_bootstrap="given:2").kafka_bootstrap == "given:2"
    assert resolved(kafka_bootstrap=None).kafka_bootstrap == "elsewhere:1"


def test_what_is_refused_is_named_with_its_value(home, monkeypatch):
    with pytest.raises(ConfigurationError, match="setting budget_ms: .*given: -3"):
        gateway_settings(budget_ms=-3)
    monkeypatch.setenv("ULTRATHINK_GATEWAY_MAX_BATCH", "many")
    with pytest.raises(ConfigurationError, match="setting max_batch: .*'many'"):
        gateway_settings()


def test_no_error_of_a_setting_shows_a_secret(home, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_GATEWAY_RESERVE_MS", "100")
    monkeypatch.setenv("ULTRATHINK_GATEWAY_ADMIN_TOKEN", "hunter2")
    monkeypatch.setenv("ULTRATHINK_GATEWAY_REDIS_URL", "redis://:hunter2@h/0")
    with pytest.raises(ConfigurationError, match="reserve_ms 100") as raised:
        gateway_settings()
    assert "hunter2" not in str(raised.value)
    with pytest.raises(ConfigurationError, match="admin_token") as raised:
        gateway_settings(admin_token=["hunter2"])
    assert "hunter2" not in str(raised.value)

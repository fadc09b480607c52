"""What was chosen at the first start is used again, wherever and however the stack is started anew."""

from __future__ import annotations

import json
import os

import pytest

from connectors.kafka.identity import CA, SECRETS
from stack.servers.settings import ServerPorts, StackSettings, chosen, differences, from_environment, load
from stack.supervision.checks import check_same
from trading.errors import ConfigurationError


@pytest.fixture
def first(tmp_path, monkeypatch):
    """A stack that was started once, from somewhere, with everything chosen."""
    home = tmp_path / "home"
    made = StackSettings(
        profile="servers",
        home=home,
        brokers=3,
        partitions=8,
        model_repository=tmp_path / "models",
        ports=ServerPorts.automatic(),
    )
    made.save()
    monkeypatch.setenv("ULTRATHINK_HOME", str(home))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return made


def test_a_start_from_elsewhere_without_flags_is_the_same_stack(first):
    assert differences(first, chosen()) == []
    assert chosen().model_repository == first.model_repository


def test_what_is_given_now_is_used_and_told(first, tmp_path, monkeypatch):
    assert differences(first, chosen(brokers=1)) == ["brokers is 3, asked for is 1"]
    found = chosen(model_repository=tmp_path / "others")
    assert differences(first, found) == [
        f"model_repository is {tmp_path / 'models'}, asked for is {tmp_path / 'others'}"
    ]
    monkeypatch.setenv("ULTRATHINK_PORTS__REDIS", "7000")
    moved = chosen()
    assert (moved.ports.redis, moved.ports.triton_http) == (7000, first.ports.triton_http)
    assert [line.partition(" ")[0] for line in differences(first, moved)] == ["ports.redis"]


def test_another_stack_than_the_one_that_runs_is_refused(first):
    check_same(chosen(), load())
    with pytest.raises(ConfigurationError, match="brokers is 3, asked for is 1"):
        check_same(chosen(brokers=1), load())


def test_a_first_start_takes_the_defaults_and_keeps_no_path_that_moves(tmp_path, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path / "new"))
    monkeypatch.chdir(tmp_path)
    found = chosen()
    assert (found.brokers, found.ports) == (1, ServerPorts())
    assert found.model_repository == tmp_path / "new" / "model_repository"
    monkeypatch.delenv("ULTRATHINK_HOME")
    # Of a checkout, too: what is committed there is not what is served.
    assert chosen().model_repository == tmp_path / ".ultrathink" / "model_repository"


@pytest.mark.parametrize("security", ["none", "sasl"])
def test_a_stack_that_starts_connects_as_it_says_whatever_a_person_told_of_another_cluster(
    tmp_path, monkeypatch, security
):
    monkeypatch.setenv(SECRETS, "/somewhere/else")
    monkeypatch.setenv(CA, "/somewhere/ca.pem")
    StackSettings(home=tmp_path, kafka_security=security).tell_clients(alone=True)
    found = os.environ.get(SECRETS), os.environ.get(CA)
    assert found == ((None, None) if security == "none" else (f"{tmp_path}/secrets", None))


def test_a_command_keeps_to_what_a_person_told_it(tmp_path, monkeypatch):
    monkeypatch.setenv(SECRETS, "/somewhere/else")
    StackSettings(home=tmp_path, kafka_security="sasl").tell_clients()
    assert os.environ[SECRETS] == "/somewhere/else"


@pytest.mark.parametrize(
    ("given", "ports"),
    [("9192", (9192,)), ("9192,9193, 9194", (9192, 9193, 9194)), ("[9192, 9193]", (9192, 9193)), ("", None), ("x", None),
     ("0", None), ("70000", None), ("9192,", None)],
)  # fmt: skip
def test_brokers_ports_are_said_as_people_say_them(monkeypatch, given, ports):
    monkeypatch.setenv("ULTRATHINK_PORTS__KAFKA", given)
    if ports is not None:
        assert from_environment().ports.kafka == ports
        return
    with pytest.raises(ConfigurationError, match="ports.kafka"):
        from_environment()


def test_each_broker_has_a_port(monkeypatch):
    monkeypatch.setenv("ULTRATHINK_PORTS__KAFKA", "9192")
    assert from_environment(brokers=1).kafka_bootstrap == "127.0.0.1:9192"
    with pytest.raises(ConfigurationError, match="ULTRATHINK_PORTS__KAFKA=9092,9093,9094"):
        from_environment(brokers=3)


@pytest.mark.parametrize("kept", ["{", "", "[]", '{"brokers": "x"}', b"\xff\xfe", '{"ports": {"kafka": []}}'])
def test_a_file_that_cannot_be_read_is_named_with_the_way_out(first, kept):
    path = first.absolute_home / "stack.json"
    path.write_bytes(kept if isinstance(kept, bytes) else kept.encode())
    with pytest.raises(ConfigurationError, match=r"stack\.json cannot be read: .*Mend it, or take it away"):
        load()


def test_what_is_wrong_in_the_environment_keeps_nobody_from_a_stack_that_was_started(first, monkeypatch):
    for name, value in {"PORTS__KAFKA": "x", "BROKERS": "9", "PORTS": "{", "PARTITIONS": "none"}.items():
        monkeypatch.setenv(f"ULTRATHINK_{name}", value)
    assert load() == first
    with pytest.raises(ConfigurationError, match="ULTRATHINK_"):
        chosen()


def test_what_does_not_go_with_what_is_kept_is_refused(first, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_PORTS__KAFKA", "29092")
    with pytest.raises(ConfigurationError, match="brokers is 3: name a port for each.*keeps of the stack's first"):
        chosen()


def test_no_port_is_given_twice(monkeypatch):
    monkeypatch.setenv("ULTRATHINK_PORTS__REDIS", "9092")
    with pytest.raises(ConfigurationError, match="port 9092 is given to kafka and to redis"):
        from_environment()
    monkeypatch.setenv("ULTRATHINK_PORTS__REDIS", "9093")
    assert from_environment().ports.redis == 9093


def test_ports_of_before_that_a_newer_default_would_take_are_kept_and_the_new_ones_make_room(tmp_path):
    """A desk of a version that knew no metrics of the broker, which somebody moved to what is now their port."""
    made_ports = {"gateway_metrics": 9110, "data": 8040, "triton_http": 9095, "kafka": [9092, 9093, 9094]}
    (tmp_path / "stack.json").write_text(json.dumps({"home": str(tmp_path), "brokers": 1, "ports": made_ports}))
    found = load(tmp_path).ports
    assert (found.gateway_metrics, found.data, found.triton_http) == (9110, 8040, 9095)
    others = [found.broker_metrics, found.metrics, found.alertmanager, found.stack]
    assert len({9110, 8040, 9095, *others}) == 7
    # The same each time.
    assert found == load(tmp_path).ports

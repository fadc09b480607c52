"""docker-compose.yml is valid, and says what stack/ says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from connectors.kafka.topics import KEPT, TOPICS, UNPARTITIONED
from gateway.settings import GatewaySettings
from stack.servers import kafka
from stack.servers.settings import ServerPorts, StackSettings
from tests.paths import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
LONG_RUNNING = {name: s for name, s in SERVICES.items() if name != "topics"}


def published():
    return {int(p.split(":")[1]): name for name, s in SERVICES.items() for p in s.get("ports", [])}


def test_it_is_valid_against_the_compose_schema():
    program = Path(sys.executable).parent / "check-jsonschema"
    done = subprocess.run(
        [program, "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_the_only_compose_file():
    found = {p for pattern in ("**/*compose*.y*ml", "**/compose.y*ml") for p in ROOT.glob(pattern)}
    assert {p.relative_to(ROOT) for p in found if ".venv" not in p.parts} == {Path("docker-compose.yml")}


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_every_server_restarts_is_checked_and_has_a_memory_limit(name):
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"]
    assert service["mem_limit"]


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_and_ports_are_on_loopback(name):
    service = SERVICES[name]
    tag = service["image"].rpartition(":")[2]
    assert tag not in {"", "latest"}
    assert any(c.isdigit() for c in tag)
    assert all(p.startswith("127.0.0.1:") for p in service.get("ports", []))


def test_ports_are_those_of_the_stack():
    ports = ServerPorts()
    wanted = {*ports.kafka, ports.redis, ports.postgres, ports.mlflow, ports.triton_http, ports.triton_grpc}
    wanted |= {ports.triton_metrics, ports.prometheus, ports.gateway_metrics}
    assert wanted <= published().keys()
    assert GatewaySettings().metrics_port == ports.gateway_metrics


def test_topics_and_partitions_are_those_of_the_stack():
    (command,) = SERVICES["topics"]["command"]
    lines = [line.partition("create ") for line in command.splitlines() if "create " in line]
    created = [(before, *rest.split()) for before, _, rest in lines if before in {"", "PARTITIONS=1 "}]
    roles = {name: role for role, name in TOPICS.by_role().items()}
    assert {name for _, name, *_ in created} == roles.keys()
    for before, name, *options in created:
        assert (before == "PARTITIONS=1 ") is (roles[name] in UNPARTITIONED)
        wanted = KEPT.get(roles[name], {})
        assert options == [word for key, value in wanted.items() for word in ("--config", f"{key}={value}")]
    assert f"--partitions $${{PARTITIONS:-{StackSettings.model_fields['partitions'].default}}} " in command
    assert "--replication-factor 3" in command
    assert GatewaySettings().topics == TOPICS


def test_broker_settings_are_those_of_the_stack(tmp_path):
    text = kafka.properties(StackSettings(home=tmp_path, brokers=3), 1, tmp_path)
    stack = dict(line.split("=", 1) for line in text.splitlines())
    environment = SERVICES["kafka-1"]["environment"]
    for name in (
        "default.replication.factor", "min.insync.replicas", "offsets.topic.replication.factor",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms", "transaction.state.log.min.isr", "broker.session.timeout.ms", "auto.create.topics.enable",
    ):  # fmt: skip
        assert str(environment["KAFKA_" + name.upper().replace(".", "_")]) == stack[name]
    assert SERVICES["kafka-1"]["image"] == "apache/kafka:4.1.1"
    assert "4.1.1" in (ROOT / "stack/servers/files/kafka/jgo.toml").read_text()


def test_triton_runs_on_the_gpu_with_explicit_control():
    triton = SERVICES["triton"]
    assert triton["image"].endswith("25.03-py3")
    assert triton["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_our_images_do_not_run_as_root():
    lines = (ROOT / "deploy/docker/Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")][-1] == "USER ultrathink"


def test_the_file_has_no_secret():
    text = (ROOT / "docker-compose.yml").read_text()
    for line in text.splitlines():
        if "PASSWORD:" in line:
            assert "${" in line


def test_triton_starts_with_what_is_released_and_nothing_else(tmp_path):
    from exporters.formats.config_pbtxt import Serving
    from exporters.repository.repository import ModelRepository
    from trading.models.signature import META_CONTROLLER, REGIME_DETECTION, TRADING_DECISION

    repository = ModelRepository(tmp_path / "models")
    repository.configure(REGIME_DETECTION, Serving((3, 4)))
    repository.configure(META_CONTROLLER, Serving())
    repository.configure(TRADING_DECISION, Serving((1,), {"regime_detection": 4}))
    fake = tmp_path / "bin" / "tritonserver"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nfor a in "$@"; do echo "$a"; done\n')
    fake.chmod(0o755)
    script = ROOT / "deploy" / "triton" / "start.sh"
    done = subprocess.run(
        [script, repository.root], capture_output=True, text=True, check=True, env={"PATH": f"{fake.parent}:/usr/bin:/bin"}
    )  # fmt: skip
    flags = done.stdout.split()
    assert {f for f in flags if f.startswith("--load-model")} == {
        "--load-model=regime_detection", "--load-model=trading_decision",
    }  # fmt: skip
    assert "--model-control-mode=explicit" in flags
    assert SERVICES["triton"]["command"] == ["/start.sh", "/models"]
    assert "./deploy/triton/start.sh:/start.sh:ro" in SERVICES["triton"]["volumes"]

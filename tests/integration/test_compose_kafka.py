"""Compose's broker settings on a real broker: the image's rules for its environment, ports of this machine."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
import yaml
from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)  # fmt: skip
from typer.testing import CliRunner

from connectors.kafka import identity
from connectors.kafka.access import ACCESS, allowed, bindings
from connectors.kafka.admin import admin_client
from connectors.kafka.cluster import check_cluster, require
from connectors.kafka.topics import TOPICS
from stack.cli.main import app
from stack.servers.identity import Identity, end
from stack.servers.kafka import LOG4J, java_command
from stack.servers.ports import free_ports
from tests.paths import ROOT
from tests.waiting import eventually
from trading.errors import ServiceUnavailable

PASSWORD = "of-the-administrator"


def properties(environment):
    """`KAFKA_A_B` is `a.b`, as the image makes it of its environment (`___` is a dash)."""
    found = {}
    for name, value in environment.items():
        if name.startswith("KAFKA_") and name not in {"KAFKA_HEAP_OPTS", "KAFKA_GC_LOG_OPTS"}:
            key = name.removeprefix("KAFKA_").lower().replace("___", "-").replace("_", ".")
            found[key] = re.sub(r"\$\{KAFKA_ADMIN_PASSWORD:\?[^}]*\}", PASSWORD, str(value))
    return found


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """One node of the three, alone."""
    folder = tmp_path_factory.mktemp("compose-kafka")
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    inner, outer, controller = free_ports(3)
    settings = properties(compose["services"]["kafka-1"]["environment"]) | {
        "listeners": f"INTERNAL://127.0.0.1:{inner},EXTERNAL://127.0.0.1:{outer},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"INTERNAL://127.0.0.1:{inner},EXTERNAL://127.0.0.1:{outer}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "log.dirs": str(folder / "data"),
    }
    settings |= {key: "1" for key in settings if key.endswith(("replication.factor", "min.isr", "insync.replicas"))}
    config = folder / "server.properties"
    config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    (folder / "log4j2.properties").write_text(LOG4J)
    cluster = compose["x-kafka-environment"]["CLUSTER_ID"]
    subprocess.run(
        [*java_command("kafka.tools.StorageTool", folder, "format", f"--cluster-id={cluster}"), "-c", str(config)],
        check=True, capture_output=True,
    )  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            java_command("kafka.Kafka", folder, str(config)), stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield f"127.0.0.1:{inner}", f"127.0.0.1:{outer}"
    finally:
        end(Identity.of(process.pid))
        process.wait(30)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "kafka-admin").write_text(PASSWORD)
    for role in ACCESS:
        (folder / f"kafka-{role}").write_text(f"of-{role}")
    before = os.environ.get(identity.SECRETS)
    os.environ[identity.SECRETS] = str(folder)
    yield folder
    if before is None:
        del os.environ[identity.SECRETS]
    else:
        os.environ[identity.SECRETS] = before


def test_setup_makes_a_desk_of_it_twice_and_each_role_gets_in_by_either_listener(broker, secrets):
    inner, outer = broker

    def setup():
        return CliRunner().invoke(app, ["kafka", "setup", "--bootstrap", inner, "--replicas", "1"])

    eventually(lambda: setup().exit_code == 0, 60.0)
    # Of a table of before: it is taken away.
    before = identity.act_as("admin")
    try:
        wider = allowed("reader", ResourceType.TOPIC, TOPICS.orders, AclOperation.WRITE)
        admin = admin_client(inner)
        admin.create_acls([wider])[wider].result(15)
        setup()
        everything = AclBindingFilter(
            ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
        )
        assert set(admin.describe_acls(everything).result(15)) == set(bindings(TOPICS))
    finally:
        identity.act_as(before)
    more = CliRunner().invoke(app, ["kafka", "setup", "--bootstrap", inner, "--replicas", "1", "--partitions", "8"])
    assert "asked for 8 partitions, but market.ticks has 4" in str(more.exception)
    done = setup()
    assert (done.exit_code, done.output.strip()) == (
        0,
        f"{len(TOPICS.by_role())} topics, {len(ACCESS)} users on {inner}",
    )
    before = identity.act_as("gateway")
    try:
        assert check_cluster(outer, TOPICS).partitions == 4
        identity.act_as("sender")
        assert require(outer, TOPICS.ticks) == [0, 1, 2, 3]
        with pytest.raises(ServiceUnavailable, match=r"use gateway.control; give the user 'sender'"):
            require(inner, TOPICS.control)
    finally:
        identity.act_as(before)


def test_setup_without_a_roles_password_asks_nothing_of_the_broker(tmp_path):
    (tmp_path / "kafka-admin").write_text(PASSWORD)
    # Nobody listens there: that is not what it says.
    command = ["kafka", "setup", "--bootstrap", "127.0.0.1:1"]
    done = CliRunner(env={identity.SECRETS: str(tmp_path)}).invoke(app, command)
    assert f"cannot be read from {tmp_path}/kafka-gateway" in str(done.exception)

"""docker-compose.yml is valid, and says what stack/ says."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from connectors.kafka.access import ACCESS
from connectors.kafka.identity import ADMIN
from connectors.kafka.topics import TOPICS
from exporters.repository.repository import ModelRepository
from exporters.repository.state import journal_path
from gateway.adapters.metrics import LightHistogram
from gateway.settings import GatewaySettings
from stack.cli.kafka import setup as command
from stack.processes.environment import KINDS, variables
from stack.servers import kafka, prometheus
from stack.servers.settings import ServerPorts, StackSettings
from stack.watching import scraping
from stack.watching.boards import BOARDS, TRACED
from tests.paths import ROOT
from tests.unit.stack.cli.test_commands import unknown_in
from trading.keys import private_key

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
#: Jobs, and what a person calls.
ONCE = {
    "kafka-setup",
    "forensics-setup",
    "models-setup",
    "release",
    "export",
    "ticks",
    "gpu-check",
    "gpu-probe",
    "trainer",
    "operator",
    "experimenter",
    "rebind",
}
LONG_RUNNING = {n: s for n, s in SERVICES.items() if n not in ONCE}


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
def test_nothing_is_swapped_out_in_place_of_being_ended(name):
    """Without it Docker gives as much swap on top, and what decides waits for a disk."""
    assert SERVICES[name]["memswap_limit"] == SERVICES[name]["mem_limit"]


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


def test_topics_users_and_permissions_are_made_by_the_stacks_own_table():
    setup = SERVICES["kafka-setup"]
    assert setup["command"][:3] == ["ultrathink", "kafka", "setup"]
    options = inspect.signature(command).parameters
    partitions, replicas = options["partitions"].default, options["replicas"].default
    assert (partitions, replicas) == (StackSettings.model_fields["partitions"].default, 3)
    assert set(setup["secrets"]) == {f"kafka-{role}" for role in (ADMIN, *ACCESS)}
    assert GatewaySettings().topics == TOPICS


@pytest.mark.parametrize("name", SERVICES)
def test_nobody_is_root_nor_can_become_it_nor_writes_beside_what_is_his(name):
    service = SERVICES[name]
    user = str(service["user"]).split(":")[0]
    assert user.isdigit()
    assert user != "0"
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not service.get("privileged")
    binds = [v for v in service.get("volumes", []) if v.startswith(("./", "/"))]
    assert all("ro" in v.split(":")[2].split(",") for v in binds)


def test_each_container_sees_the_passwords_of_its_own_role_alone():
    seen = {name: service.get("secrets", []) for name, service in SERVICES.items() if name != "kafka-setup"}
    assert {name: found for name, found in seen.items() if found} == {
        "gateway": ["kafka-gateway"], "forensics": ["kafka-forensics", "forensics-signing-key"], "data": ["kafka-data"], "operator": ["kafka-operator"],
        "paper-broker": ["kafka-broker"], "ticks": ["kafka-sender"], "metrics": ["kafka-metrics"],
        "experiments": ["kafka-experiments"], "experimenter": ["kafka-operator"],
        "rebind": ["kafka-operator", "forensics-signing-key"], "orchestrator": ["kafka-operator"],
    }  # fmt: skip


OURS = [
    n
    for n, s in SERVICES.items()
    if s["image"].startswith(("ultrathink-pilot-gateway", "ultrathink-pilot-services"))
]


@pytest.mark.parametrize("name", OURS)
def test_whoever_imports_what_is_compiled_can_write_where_it_is_kept(name):
    """Numba looks for a folder that it may write to as it is imported, whether anything is compiled or not."""
    service = SERVICES[name]
    writable = [w.split(":")[0] for w in service["tmpfs"]] + [v.split(":")[1] for v in service.get("volumes", [])]
    assert {"/tmp", "/cache"} <= set(writable)
    assert "NUMBA_CACHE_DIR=/cache" in (ROOT / "deploy/docker/Dockerfile").read_text()


def test_kafka_can_load_the_libraries_that_it_unpacks():
    assert "/tmp:exec" in SERVICES["kafka-1"]["tmpfs"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_password_is_on_a_command_line(name):
    service = SERVICES[name]
    lines = [*service.get("entrypoint", []), *service.get("command", [])]
    # What the shell writes into a file is no argument of a program that goes on running.
    programs = [part for line in lines for part in line.split("&&") if "printf" not in part]
    assert [part for part in programs if "PASSWORD" in part.upper() or "requirepass" in part] == []


@pytest.fixture
def somebody():
    """A folder of its own, and as whom a program runs there: whoever deploys is not root."""
    who = {} if os.getuid() else {"user": 65534, "group": 65534, "extra_groups": []}
    # Not below pytest's folder, which is root's alone where root runs it.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "docker-compose.yml").touch()
        (folder / ".env").write_text("REDIS_PASSWORD=mine\nGRAFANA_PASSWORD=\nOTHER=x\n")
        for path in (folder, folder / ".env"):
            os.chown(path, who.get("user", -1), who.get("group", -1))
        yield folder, who


SCRIPT = ROOT / "deploy" / "docker" / "make-secrets.sh"


@pytest.mark.parametrize(
    "line",
    [
        'KAFKA_ADMIN_PASSWORD="abc"',
        "REDIS_PASSWORD=abc\r",
        "REDIS_PASSWORD=a b",
        "GRAFANA_PASSWORD=a\nGRAFANA_PASSWORD=b",
    ],
)
def test_what_compose_would_read_otherwise_is_refused_by_name(somebody, line):
    folder, who = somebody
    (folder / ".env").write_text(line + "\n", newline="")
    program = ["/bin/sh", "-c", SCRIPT.read_text()]
    done = subprocess.run(program, cwd=folder, check=False, capture_output=True, text=True, **who)
    assert (done.returncode, done.stderr.count(line.partition("=")[0])) == (2, 1)
    assert line in (folder / ".env").read_bytes().decode()
    assert not (folder / "secrets" / "kafka-admin").exists()


def test_the_script_makes_every_password_that_is_asked_for_and_keeps_those_that_are_there(somebody):
    tmp_path, who = somebody

    def make():
        program = ["/bin/sh", "-c", SCRIPT.read_text()]
        done = subprocess.run(program, cwd=tmp_path, check=False, capture_output=True, text=True, **who)
        assert done.returncode == 0, done.stderr
        return {p: p.read_text() for p in (tmp_path / ".env", *(tmp_path / "secrets").iterdir())}

    made = make()
    assert make() == made
    environment = dict(line.split("=", 1) for line in made[tmp_path / ".env"].splitlines())
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    assert asked <= environment.keys()
    assert (environment["REDIS_PASSWORD"], environment["OTHER"]) == ("mine", "x")
    passwords = [environment[name] for name in asked - {"REDIS_PASSWORD"}]
    assert all(re.fullmatch(r"[\w-]{32}", password) for password in passwords)
    assert len(set(passwords)) == len(passwords)
    files = {path.name: text for path, text in made.items() if path.name != ".env"}
    assert (
        set(files)
        == {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
        == set(COMPOSE["secrets"])
    )
    assert files["kafka-admin"] == environment["KAFKA_ADMIN_PASSWORD"]
    assert len(set(files.values())) == len(files)
    example = [line.partition("=")[0] for line in (ROOT / ".env.example").read_text().splitlines() if "=" in line]
    assert set(example) == asked
    signing = tmp_path / "key"
    signing.touch(0o600)
    signing.write_text(files["forensics-signing-key"])
    assert len(private_key(signing).sign(b"x")) == 64
    assert oct((tmp_path / "secrets").stat().st_mode & 0o777) == "0o700"


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
    assert SERVICES["triton"]["command"] == ["/start.sh", "/repository/models"]
    assert "./deploy/triton/start.sh:/start.sh:ro" in SERVICES["triton"]["volumes"]


def test_prometheus_scrapes_what_there_is_where_it_listens():
    """Every target is a container, at a port that our settings, or its image, say."""
    for job, address in {**scraping.COMPOSE, **scraping.COMPOSE_EXPORTERS}.items():
        host, _, port = address.partition(":")
        assert job == "prometheus" or host in SERVICES, job
        told = [str(value) for value in SERVICES.get(host, {}).get("environment", {}).values()]
        listens = {"triton": "8002", "data": "8010", "alertmanager": "9093", "node-exporter": "9100",
                   "dcgm-exporter": "9400", "localhost": "9090"}  # fmt: skip
        assert port == listens.get(host) or port in told, job


def test_every_variable_of_ours_is_a_setting_that_exists():
    known = {variable for kind in KINDS for variable in variables(kind)} | {"ULTRATHINK_KAFKA_SECRETS"}
    # What commands take in place of an option, and the stack's own.
    known |= {"ULTRATHINK_KAFKA", "ULTRATHINK_TRITON_URL", "ULTRATHINK_MODEL_REPOSITORY"}
    used = {name for s in SERVICES.values() for name in s.get("environment", {}) if name.startswith("ULTRATHINK_")}
    # Told to the script that makes the databases.
    used.remove("ULTRATHINK_DB_PASSWORD")
    assert len(used) > 30
    assert used - known == set()


def test_spans_go_to_the_collector_that_there_is():
    senders = {
        n: s["environment"]
        for n, s in SERVICES.items()
        if "OTEL_EXPORTER_OTLP_ENDPOINT" in s.get("environment", {})
    }
    assert set(senders) == {"gateway", "forensics"}
    for told in senders.values():
        host = told["OTEL_EXPORTER_OTLP_ENDPOINT"].removeprefix("http://").partition(":")[0]
        assert SERVICES[host]["profiles"] == ["traces"]
        assert "${TRACES:-none}" in told.values()
    (source,) = [
        one
        for one in yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/ultrathink.yml").read_text())[
            "datasources"
        ]
        if one["type"] == "jaeger"
    ]
    assert source["url"] == "http://traces:16686"


def test_a_latency_leads_to_its_trace():
    """Prometheus keeps exemplars, here as embedded, and Grafana knows whose trace they name."""
    embedded = prometheus.service(StackSettings()).command()
    assert {scraping.EXEMPLARS, f"--storage.tsdb.retention.time={scraping.RETENTION}"} <= set(embedded)
    assert {scraping.EXEMPLARS, f"--storage.tsdb.retention.time={scraping.RETENTION}"} <= set(
        SERVICES["prometheus"]["command"]
    )
    sources = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/ultrathink.yml").read_text())
    told = {one["uid"]: one for one in sources["datasources"]}
    (leads,) = told["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert leads["datasourceUid"] in told
    registry = CollectorRegistry()
    histogram = LightHistogram(TRACED, "Seconds", registry)
    histogram.observe(0.004)
    histogram.exemplify(0.004, "f" * 32, 1.0)
    (found,) = [s.exemplar for family in registry.collect() for s in family.samples if s.exemplar is not None]
    assert set(found.labels) == {leads["name"]}
    assert [q.exemplars for board in BOARDS for panel in board.panels for q in panel.queries].count(True) == 2


def test_every_command_of_ours_is_one():
    """Words that compose hands to our program: commands and options that exist."""
    found = {name: s["command"] for name, s in SERVICES.items() if s.get("command", [""])[0] == "ultrathink"}
    found |= {
        name: [*s["entrypoint"], *s["command"]]
        for name, s in SERVICES.items()
        if s.get("entrypoint", [""])[0] == "ultrathink"
    }
    assert len(found) >= 14
    assert {name: wrong for name, words in found.items() if (wrong := unknown_in(" ".join(words)))} == {}


@pytest.mark.parametrize("name", SERVICES)
def test_every_file_that_is_mounted_is_there(name):
    """A file that is missing Docker makes, as a folder, and as root."""
    mounted = [v.split(":")[0] for v in SERVICES[name].get("volumes", []) if v.startswith("./")]
    assert [path for path in mounted if not (ROOT / path).exists()] == []


def test_models_are_put_where_triton_reads_them_and_forensics_their_journal():
    """A version appears by being renamed: the exporters' staging must lie on the same volume."""
    release = SERVICES["release"]
    repository = Path(release["command"][release["command"].index("--repository") + 1])
    state = ModelRepository(repository).state
    (volume,) = release["volumes"]
    name, _, mounted = volume.partition(":")
    assert {repository.parent, state.parent} == {Path(mounted)}
    assert f"{name}:{mounted}:ro" in SERVICES["triton"]["volumes"]
    assert SERVICES["triton"]["command"][1] == str(repository)
    journal = Path(SERVICES["forensics"]["environment"]["ULTRATHINK_FORENSICS_RELEASES_JOURNAL"])
    assert journal == journal_path(repository)
    assert f"{name}:{mounted}:ro" in SERVICES["forensics"]["volumes"]
    assert SERVICES["models-setup"]["command"][-1] == str(repository)
    # A volume is its first user's: of the image that makes the folder, before Triton's, which has none.
    assert "models-setup" in SERVICES["triton"]["depends_on"]
    made = next(
        line for line in (ROOT / "deploy/docker/Dockerfile").read_text().splitlines() if "install -d" in line
    )
    assert {mounted, "/validation", "/data", "/trail", "/archive"} <= set(made.split())


def test_the_gpu_is_tritons_and_the_trainers_and_no_trainer_starts_without_its_kernels():
    devices = {
        n: s["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"]
        for n, s in SERVICES.items()
        if "deploy" in s
    }
    assert devices == {
        "triton": ["gpu"], "trainer": ["gpu"], "gpu-check": ["gpu"], "orchestrator": ["gpu"], "dcgm-exporter": ["utility"],
    }  # fmt: skip
    assert SERVICES["orchestrator"]["depends_on"]["gpu-check"]["condition"] == "service_completed_successfully"
    trainer, check = SERVICES["trainer"], SERVICES["gpu-check"]
    assert trainer["depends_on"]["gpu-check"] == {"condition": "service_completed_successfully"}
    assert trainer["image"] == check["image"]
    assert {s["restart"] for s in (trainer, check, SERVICES["gpu-probe"], SERVICES["release"])} == {"no"}
    assert SERVICES["gpu-probe"]["volumes"] == check["volumes"]

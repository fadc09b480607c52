"""deploy/kubernetes builds, is valid, and says what docker-compose.yml says."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from functools import cache

import jsonschema
import kubernetes_validate
import pytest
import yaml

from connectors.kafka.access import ACCESS
from connectors.kafka.topics import TOPICS, UNPARTITIONED
from stack.deploying import strimzi
from stack.processes.environment import KINDS, variables
from stack.watching import scraping
from stack.watching.boards import BOARDS
from tests.kubernetes import KUBERNETES, SCHEMAS, build, built
from tests.paths import ROOT
from tests.unit.stack.cli.test_commands import unknown_in
from trading.keys import private_key

OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
ALL = ["base", *OVERLAYS]
VERSIONS = ["1.34", "1.35", "1.36", "1.37"]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OPERATORS = ("strimzi.io", "cnpg.io", "keda.sh", "coreos.com")
POD_OWNERS = {"Deployment", "StatefulSet", "Job", "CronJob"}
#: Made by operators: a secret a role, the authority's certificate.
MADE = {*(f"kafka-{role}" for role in ACCESS), "desk-cluster-ca-cert"}


def pods(name: str) -> dict[str, tuple[dict, dict]]:
    """Workload -> (labels, pod)."""
    found = {}
    for one in built(name):
        if one["kind"] in POD_OWNERS:
            spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
            found[one["metadata"]["name"]] = (spec["template"]["metadata"]["labels"], spec["template"]["spec"])
    return found


def containers(name: str) -> dict[str, dict]:
    """Container -> itself, those before the others too."""
    return {
        c["name"]: c for _, pod in pods(name).values() for c in [*pod.get("initContainers", []), *pod["containers"]]
    }


def of(name: str, kind: str) -> dict[str, dict]:
    return {one["metadata"]["name"]: one for one in built(name) if one["kind"] == kind}


def is_ours(resource: dict) -> bool:
    return not any(group in resource["apiVersion"] for group in OPERATORS)


@cache
def schema(name: str) -> jsonschema.protocols.Validator:
    found = json.loads((SCHEMAS / name).read_text())
    return jsonschema.validators.validator_for(found)(found)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ALL)
def test_every_resource_is_valid(name, version):
    checked = [one for one in built(name) if is_ours(one)]
    assert len(checked) > 30
    for one in checked:
        kubernetes_validate.validate(copy.deepcopy(one), version, strict=True)


@pytest.mark.parametrize("name", ALL)
def test_every_custom_resource_is_valid(name):
    if not SCHEMAS.is_dir():
        pytest.skip(f"no schemas of custom resources at {SCHEMAS}")
    checked = [one for one in built(name) if not is_ours(one)]
    assert len(checked) > 15
    for one in checked:
        group, version = one["apiVersion"].split("/")
        schema(f"{group}_{one['kind']}_{version}.json").validate(one)


def test_what_is_wrong_is_found():
    """The checks above can fail: a field that nobody knows, and one of another type."""
    deployment = copy.deepcopy(of("base", "Deployment")["data"])
    deployment["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)
    deployment["spec"].pop("replica")
    deployment["spec"]["replicas"] = "one"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def test_a_database_elsewhere_takes_the_place_of_ours(tmp_path):
    folder = tmp_path.resolve() / "external"
    folder.mkdir()

    def there(name):
        return os.path.relpath(KUBERNETES / name, folder)

    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "resources": [there("base")],
                "namespace": "ultrathink",
                "components": [there("components/external-database"), there("components/paper-broker")],
            }
        )
    )
    done = build(folder)
    assert done.returncode == 0, done.stderr
    found = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}
    assert ("Cluster", "postgres") not in found
    assert found["Service", "postgres-rw"]["spec"]["type"] == "ExternalName"
    assert found["NetworkPolicy", "to-postgres"]["spec"]["egress"] == [{"ports": [{"port": 5432}]}]
    assert found["Deployment", "paper-broker"]["spec"]["replicas"] == 1
    gateway = found["StatefulSet", "gateway"]["spec"]["template"]["spec"]["containers"][0]
    told = {e["name"]: e.get("value") for e in gateway["env"]}
    assert (told["ULTRATHINK_GATEWAY_EXECUTION"], told["ULTRATHINK_GATEWAY_TRITON_URL"]) == (
        "broker",
        "triton:8001",
    )


#: What stands elsewhere in a cluster: what compose says, and what Kubernetes does.
ELSEWHERE = (
    (r"kafka-1:19092,kafka-2:19092,kafka-3:19092", "desk-kafka-bootstrap:9093"),
    (r"@timescaledb:5432", "@postgres-rw:5432"),
    (r"^/run/secrets$", "/run/secrets/kafka"),
    (r"^/run/secrets/forensics-signing-key$", "/run/secrets/forensics/signing-key"),
    (r"\$\{(\w+):\?[^}]*\}", r"$(\1)"),
    (r"\$\{EXECUTION:-assumed\}", "assumed"),
    (r"\$\{REBINDING_KEYS:-\}", "$(ULTRATHINK_GATEWAY_REBINDING_KEYS)"),
)
#: Named as what another holds: a container's own variable there.
DIRECT = {"GATEWAY_ADMIN_TOKEN": "ULTRATHINK_GATEWAY_ADMIN_TOKEN", "DATA_TOKEN": "ULTRATHINK_DATA_TOKEN"}


#: Where spans go is a cluster's own affair.
TRACES = {"ULTRATHINK_GATEWAY_TRACE_EXPORTER", "ULTRATHINK_FORENSICS_TRACE_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT"}


def as_in_kubernetes(value: str) -> str:
    for pattern, there in ELSEWHERE:
        value = re.sub(pattern, there, value)
    return value


#: A person's words come with `exec`.
WAITING = {"operator", "experimenter"}
SAME = [
    "gateway", "operator", "paper-broker", "forensics-setup", "forensics", "forensics-retire", "rebind", "data", "metrics", "experiments", "experimenter", "mlflow",
]  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_the_settings_are_those_of_compose(name):
    here, there = containers("base")[name], COMPOSE[name]
    told = {e["name"]: e.get("value", f"$({e['name']})") for e in here["env"]}
    wanted = {k: as_in_kubernetes(str(v)) for k, v in there["environment"].items() if k not in TRACES}
    wanted = {k: f"$({k})" if v in {f"$({name})" for name in DIRECT} else v for k, v in wanted.items()}
    # Encrypted there; and passwords that others are made of.
    parts = {part for value in wanted.values() for part in re.findall(r"\$\((\w+)\)", value)}
    extra = told.keys() - wanted.keys()
    # A job has no command line of a person's.
    assert extra <= parts | {"ULTRATHINK_KAFKA_CA"} | ({"REASON"} if name == "rebind" else set())
    assert ("ULTRATHINK_KAFKA_CA" in extra) == ("ULTRATHINK_KAFKA_SECRETS" in told)
    assert {k: told.get(k) for k in wanted} == wanted


@pytest.mark.parametrize("name", SAME)
def test_command_image_user_memory_and_ports_are_those_of_compose(name):
    here, there = containers("base")[name], COMPOSE[name]
    command = [word for word in there["command"] if word not in {"--daily", "--heartbeat", "/tmp/alive"}]
    if name == "rebind":
        command = [*there["entrypoint"], "--reason", "$(REASON)"]
    assert name in WAITING or [w for w in here["args"] if w not in {"--heartbeat", "/tmp/alive"}] == command
    assert here["image"] == there["image"]
    memory = here["resources"]["limits"]["memory"]
    assert memory == there["mem_limit"].replace("m", "Mi").replace("g", "Gi")
    ports = {int(p.split(":")[2]) for p in there.get("ports", [])}
    assert {p["containerPort"] for p in here.get("ports", [])} == ports or name == "forensics-retire"
    (pod,) = [
        pod
        for _, pod in pods("base").values()
        if name in {c["name"] for c in [*pod.get("initContainers", []), *pod["containers"]]}
    ]
    assert f"{pod['securityContext']['runAsUser']}" == str(there["user"]).split(":")[0]


def test_every_image_of_others_is_that_of_compose():
    assert containers("base")["triton"]["command"] == [
        "/bin/sh",
        "/start/start.sh",
        *COMPOSE["triton"]["command"][1:],
    ]
    for name in ("redis", "triton"):
        assert containers("base")[name]["image"] == COMPOSE[name]["image"]
    # The operator knows which versions of Kafka it can run.
    assert "version" not in of("base", "Kafka")["desk"]["spec"]["kafka"]


def test_the_brokers_are_set_up_as_in_compose():
    there = COMPOSE["kafka-1"]["environment"]
    config = of("base", "Kafka")["desk"]["spec"]["kafka"]["config"]
    assert len(config) >= 7
    assert {k: str(v) for k, v in config.items()} == {
        k: str(there["KAFKA_" + k.upper().replace(".", "_")]) for k in config
    }
    pool = of("base", "KafkaNodePool")["broker"]["spec"]
    assert pool["replicas"] == sum(name.startswith("kafka-") and name[-1].isdigit() for name in COMPOSE)
    assert set(pool["roles"]) == {"controller", "broker"}


@pytest.mark.parametrize("name", ALL)
def test_every_variable_of_ours_is_a_setting_and_every_command_one(name):
    known = {variable for kind in KINDS for variable in variables(kind)} | {
        "ULTRATHINK_KAFKA_SECRETS", "ULTRATHINK_KAFKA_CA", "ULTRATHINK_DB_PASSWORD",
    }  # fmt: skip
    found = containers(name)
    used = {e["name"] for c in found.values() for e in c.get("env", []) if e["name"].startswith("ULTRATHINK_")}
    assert used - known == set()
    commands = {n: c["args"] for n, c in found.items() if c.get("args", [""])[0] == "ultrathink"}
    assert len(commands) >= 9
    assert {n: wrong for n, words in commands.items() if (wrong := unknown_in(" ".join(words)))} == {}


@pytest.mark.parametrize("name", ALL)
def test_every_pod_is_restricted_and_bounded_and_asked_how_it_is(name):
    for workload, (_, pod) in pods(name).items():
        assert pod["automountServiceAccountToken"] is (workload == "orchestrator"), workload
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, workload
        assert context["runAsUser"] > 0, workload
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, workload
        for one in [*pod.get("initContainers", []), *pod["containers"]]:
            own = {k: v for k, v in one["securityContext"].items() if k not in {"runAsUser", "runAsGroup"}}
            assert one["securityContext"].get("runAsUser", 1) > 0, one["name"]
            assert own == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }, one["name"]  # fmt: skip
            resources = one["resources"]
            assert resources["requests"]["memory"] == resources["limits"]["memory"], one["name"]
            assert resources["requests"]["cpu"], one["name"]
            assert one["image"].rpartition(":")[2][0].isdigit(), one["name"]
        # They do nothing by themselves.
        if pod.get("restartPolicy", "Always") == "Always" and workload not in WAITING:
            for one in pod["containers"]:
                assert {"livenessProbe", "readinessProbe"} <= one.keys(), workload


@pytest.mark.parametrize("name", ALL)
def test_whoever_compiles_can_write_where_it_is_kept(name):
    for _, pod in pods(name).values():
        for one in pod["containers"]:
            if one["image"].startswith(("ultrathink-pilot-gateway", "ultrathink-pilot-services")):
                assert {"/cache", "/tmp"} <= {m["mountPath"] for m in one["volumeMounts"]}, one["name"]


@pytest.mark.parametrize("name", ALL)
def test_every_volume_is_of_something_that_is_there(name):
    """Of the script, of operators, or of this build."""
    script, maps, claims = made_secrets(), of(name, "ConfigMap"), of(name, "PersistentVolumeClaim")
    for workload, (_, pod) in pods(name).items():
        for volume in pod.get("volumes", []):
            if secret := volume.get("secret"):
                keys = {item["key"] for item in secret["items"]}
                assert secret["secretName"] in MADE or keys <= script[secret["secretName"]].keys(), workload
            assert volume.get("configMap", {}).get("name", "limits") in maps, workload
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "models") in claims, workload


@pytest.mark.parametrize("name", ALL)
def test_whatever_a_container_names_is_there(name):
    """Volumes, ports of its probes, keys of secrets."""
    script = made_secrets()
    for workload, (_, pod) in pods(name).items():
        templates = built_workload(name, workload)["spec"].get("volumeClaimTemplates", [])
        volumes = {t["metadata"]["name"] for t in templates} | {v["name"] for v in pod.get("volumes", [])}
        for one in [*pod.get("initContainers", []), *pod["containers"]]:
            assert {m["name"] for m in one.get("volumeMounts", [])} <= volumes, one["name"]
            probes = [one.get(kind, {}) for kind in ("startupProbe", "livenessProbe", "readinessProbe")]
            asked = {p.get("httpGet", p.get("tcpSocket", {})).get("port") for p in probes} - {None}
            assert asked <= {p["name"] for p in one.get("ports", [])}, one["name"]
            references = [v["valueFrom"] for v in one.get("env", []) if "valueFrom" in v]
            secrets = [r["secretKeyRef"] for r in references if "secretKeyRef" in r]
            assert [r for r in secrets if r["key"] not in script[r["name"]]] == [], one["name"]
            told = [r["configMapKeyRef"] for r in references if "configMapKeyRef" in r]
            assert len(secrets) + len(told) == len(references), one["name"]
            assert [r for r in told if r["key"] not in of(name, "ConfigMap")[r["name"]]["data"]] == [], one["name"]


@pytest.mark.parametrize("name", ALL)
def test_a_service_is_of_one_workload_at_ports_that_it_has(name):
    for service in of(name, "Service").values():
        wanted = service["spec"]["selector"].items()
        (behind,) = [pod for labels, pod in pods(name).values() if wanted <= labels.items()]
        ports = {p["name"] for c in behind["containers"] for p in c.get("ports", [])}
        assert {p["targetPort"] for p in service["spec"]["ports"]} <= ports


def built_workload(name: str, workload: str) -> dict:
    return next(one for one in built(name) if one["kind"] in POD_OWNERS and one["metadata"]["name"] == workload)


def made_secrets() -> dict[str, dict[str, str]]:
    done = subprocess.run(
        ["/bin/sh", KUBERNETES / "make-secrets.sh"], capture_output=True, text=True, check=True
    )  # fmt: skip
    return {one["metadata"]["name"]: one["stringData"] for one in yaml.safe_load_all(done.stdout)}


def test_the_script_makes_secrets_that_differ_and_a_key_that_signs(tmp_path):
    one, other = made_secrets(), made_secrets()
    values = [v for found in (one, other) for s in found.values() for k, v in s.items() if k != "username"]
    assert len(set(values)) == len(values)
    assert all(re.fullmatch(r"[\w-]{32}", v) for v in values if "KEY" not in v)
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(one["forensics-signing-key"]["signing-key"])
    assert len(private_key(key).sign(b"x")) == 64
    roles = of("base", "Cluster")["postgres"]["spec"]
    named = {r["passwordSecret"]["name"] for r in roles["managed"]["roles"]} | {
        roles["bootstrap"]["initdb"]["secret"]["name"]
    }
    assert named == {name for name in one if name.startswith("postgres-")}
    for name in named:
        assert one[name]["username"] == name.removeprefix("postgres-")


def test_no_secret_is_in_the_files():
    for path in KUBERNETES.rglob("*.yaml"):
        for one in yaml.safe_load_all(path.read_text()):
            if one and one.get("kind") == "Secret":
                # Names of users and of mechanisms.
                assert one["stringData"].keys() <= {"username", "sasl", "tls"}, path


#: What stands in an address -> the label of who may go there.
REACHED = {
    "desk-kafka-bootstrap": "kafka",
    "postgres-rw:": "postgres",
    "redis:6379": "redis",
    "triton:800": "triton",
    "mlflow:5000": "mlflow",
    "METRICS_HOST=gateway": "gateway",
    "EXECUTOR=kubernetes": "kubernetes",
}


@pytest.mark.parametrize("name", ALL)
def test_nobody_may_go_where_he_need_not_and_everybody_where_he_must(name):
    for workload, (labels, pod) in pods(name).items():
        texts = [
            str(text)
            for c in [*pod.get("initContainers", []), *pod["containers"]]
            for text in [*(f"{e['name']}={e.get('value', '')}" for e in c.get("env", [])), *c.get("args", [])]
            if text != containers("base")["mlflow"]["args"][-1]
        ]
        wanted = {label for address, label in REACHED.items() if any(address in text for text in texts)}
        told = {k.removeprefix("ultrathink.io/") for k, v in labels.items() if v == "client"}
        assert told == wanted, workload


@pytest.mark.parametrize("name", ALL)
def test_what_is_not_allowed_is_denied(name):
    policies = of(name, "NetworkPolicy")
    assert policies["deny-all"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for label in REACHED.values():
        spec = policies[f"to-{label}"]["spec"]
        assert spec["podSelector"] == {"matchLabels": {f"ultrathink.io/{label}": "client"}}
        # The cluster's own API is no pod.
        assert all(rule.get("to") for rule in spec["egress"]) or label == "kubernetes"
    known = {label for labels, _ in pods(name).values() for label in labels.items()}
    for policy in policies.values():
        # A policy of nobody is a mistake.
        wanted = policy["spec"]["podSelector"].get("matchLabels", {}).items()
        operators = {k for k, _ in wanted if k.startswith(("strimzi.io", "cnpg.io"))}
        assert operators or wanted <= known, policy["metadata"]["name"]


def test_topics_and_users_are_those_of_the_table():
    topics, users = of("base", "KafkaTopic"), of("base", "KafkaUser")
    assert set(topics) == set(TOPICS.by_role().values())
    assert set(users) == set(ACCESS)
    for role, name in TOPICS.by_role().items():
        assert topics[name]["spec"]["partitions"] == (1 if role in UNPARTITIONED else strimzi.PARTITIONS)
    writers = {
        role
        for role, user in users.items()
        for acl in user["spec"]["authorization"]["acls"]
        if acl["resource"] == {"type": "topic", "name": TOPICS.decisions, "patternType": "literal"}
        and "Write" in acl["operations"]
    }
    assert writers == {"gateway"}
    transactions = [
        acl["resource"] for acl in users["gateway"]["spec"]["authorization"]["acls"] if acl["resource"]["type"] == "transactionalId"
    ]  # fmt: skip
    assert transactions == [{"type": "transactionalId", "name": "gateway", "patternType": "prefix"}]


def test_gateways_are_no_more_than_partitions_and_a_marker_is_no_lag():
    scaled = of("fleet", "ScaledObject")
    gateway, triton = scaled["gateway"]["spec"], scaled["triton"]["spec"]
    partitions = of("fleet", "KafkaTopic")[TOPICS.ticks]["spec"]["partitions"]
    assert (gateway["minReplicaCount"], gateway["maxReplicaCount"]) == (1, partitions)
    (trigger,) = gateway["triggers"]
    assert trigger["metadata"]["topic"] == TOPICS.ticks
    # A group that has decided everything is one behind in every partition.
    assert int(trigger["metadata"]["lagThreshold"]) > 10 * partitions
    assert int(trigger["metadata"]["activationLagThreshold"]) > partitions
    assert triton["minReplicaCount"] == 1
    for spec in (gateway, triton):
        target = spec["scaleTargetRef"]
        (workload,) = [
            w for w in built("fleet") if (w["kind"], w["metadata"]["name"]) == (target["kind"], target["name"])
        ]
        # Who scales says how many: a number here would take it back at every apply.
        assert "replicas" not in workload["spec"]
    assert "kind-cpu" in OVERLAYS
    assert "ScaledObject" not in {one["kind"] for one in built("kind-cpu")}


def test_gateways_keep_their_names_and_leave_one_at_a_time():
    gateway = of("base", "StatefulSet")["gateway"]
    assert gateway["spec"]["serviceName"] in of("base", "Service")
    assert of("base", "Service")["gateway"]["spec"]["clusterIP"] == "None"
    budget = of("base", "PodDisruptionBudget")["gateway"]["spec"]
    assert budget == {"maxUnavailable": 1, "selector": gateway["spec"]["selector"]}


def test_only_triton_has_the_gpu_and_none_has_on_kind():
    def with_gpu(name):
        return {n for n, c in containers(name).items() if "nvidia.com/gpu" in c["resources"]["limits"]}

    assert with_gpu("base") == {"triton"}
    assert with_gpu("single-gpu") == with_gpu("fleet") == {"triton", "gpu-check"}
    assert with_gpu("kind-cpu") == set()
    # Every model has a configuration for either; that without a name asks for a GPU.
    names = {name: [w for w in containers(name)["triton"]["command"] if "config-name" in w] for name in ALL}
    assert {name for name, words in names.items() if words == ["--model-config-name=cpu"]} == {"kind-cpu"}
    assert sum(map(bool, names.values())) == 1


def test_brokers_stand_in_different_zones_where_there_are_any():
    rack = {name: of(name, "Kafka")["desk"]["spec"]["kafka"].get("rack") for name in OVERLAYS}
    assert rack == {
        "fleet": {"topologyKey": "topology.kubernetes.io/zone"}, "kind-cpu": None, "single-gpu": None,
    }  # fmt: skip


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_several_pods_mount_many_nodes_can_or_they_are_on_one(name):
    users: dict[str, set[str]] = {}
    for workload, (_, pod) in pods(name).items():
        for volume in pod.get("volumes", []):
            if claim := volume.get("persistentVolumeClaim"):
                users.setdefault(claim["claimName"], set()).add(workload)
    modes = {n: c["spec"]["accessModes"] for n, c in of(name, "PersistentVolumeClaim").items()}
    shared = {claim: workloads for claim, workloads in users.items() if len(workloads) > 1}
    assert {"models", "trail"} <= shared.keys()
    for claim, workloads in shared.items():
        for workload in workloads if modes[claim] != ["ReadWriteMany"] else ():
            labels, pod = pods(name)[workload]
            (term,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            assert term["topologyKey"] == "kubernetes.io/hostname"
            # The first of them has itself for company.
            assert term["labelSelector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("name", ALL)
def test_everything_is_in_the_desks_namespace(name):
    told = {(one["kind"], one["metadata"]["name"]): one["metadata"].get("namespace") for one in built(name)}
    assert {key for key, namespace in told.items() if namespace != "ultrathink"} == {("Namespace", "ultrathink")}


@pytest.mark.parametrize("name", ["models-setup", "release", "gpu-check", "gpu-probe"])
def test_what_runs_once_has_the_memory_and_the_image_that_it_has_in_compose(name):
    here, there = containers("single-gpu")[name], COMPOSE[name]
    assert here["image"] == there["image"]
    assert here["resources"]["limits"]["memory"] == there["mem_limit"].replace("m", "Mi").replace("g", "Gi")
    words = [
        w for w in there["command"] if w not in {"--gpu", "${GPU-rtx5070}"} and not w.startswith("/validation")
    ]
    asked = [w for w in here["args"] if not w.startswith(("/validation", "/tmp"))]
    assert asked == (words if words[0] == "ultrathink" else ["ultrathink", *words])


def test_prometheus_scrapes_the_jobs_that_the_alerts_know():
    monitors = of("fleet", "PodMonitor")
    labels = monitors["desk"]["spec"]["selector"]["matchExpressions"][0]["values"]
    jobs = {*labels, "data"}
    assert jobs == set(scraping.COMPOSE) - {"prometheus", "alertmanager"}
    for workload, (told, pod) in pods("fleet").items():
        if (job := told["app.kubernetes.io/name"]) in jobs:
            port = "http" if job == "data" else "metrics"
            assert port in {p["name"] for c in pod["containers"] for p in c["ports"]}, workload
    boards = [
        m for m in of("fleet", "ConfigMap").values() if m["metadata"].get("labels", {}).get("grafana_dashboard")
    ]
    assert {key for m in boards for key in m["data"]} == {f"{one.uid}.json" for one in BOARDS}
    assert all(len(json.dumps(m)) < 1_000_000 for m in boards)

"""What a step becomes in a cluster is valid there, restricted, and told what compose tells."""

from __future__ import annotations

import copy

import kubernetes_validate
import pytest

from tests.contract.test_kubernetes import COMPOSE, VERSIONS, as_in_kubernetes, made_secrets, of
from tests.paths import ROOT
from tests.unit.stack.cli.test_commands import unknown_in
from trainers.orchestrator.admission import NEEDS, Need
from trainers.orchestrator.executors.manifests import job, read_template
from trainers.orchestrator.ports import StepTask

TEMPLATE = ROOT / "deploy/kubernetes/base/step-job.yaml"


def made(step="train", need=None):
    return job(read_template(TEMPLATE), StepTask("0123456789ab", 7, step, need or NEEDS[step]))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("step", sorted(NEEDS))
def test_the_job_of_every_step_is_valid(step, version):
    kubernetes_validate.validate(copy.deepcopy(made(step)), version, strict=True)
    wrong = made(step, Need(3_000, 8_000))
    kubernetes_validate.validate(copy.deepcopy(wrong), version, strict=True)
    # It can be wrong: a field that nobody knows is found.
    wrong["spec"]["backoff"] = 0
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_it_is_restricted_bounded_and_has_a_command_of_ours():
    pod = made()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"] == "3000Mi"
    assert container["args"] == ["ultrathink", "orchestrator", "step", "0123456789ab", "7"]
    assert not unknown_in("ultrathink orchestrator step 0123456789ab 7")
    assert container["image"] == COMPOSE["orchestrator"]["image"]


def test_what_it_uses_is_there():
    pod = made()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
    claims = of("base", "PersistentVolumeClaim")
    assert {
        v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v
    } <= set(claims)
    secrets = [e["valueFrom"]["secretKeyRef"] for e in container["env"] if "valueFrom" in e]
    assert all(one["key"] in made_secrets()[one["name"]] for one in secrets)
    assert of("base", "ConfigMap")["step-job"]["data"]["step-job.yaml"] == TEMPLATE.read_text()


def test_steps_are_told_what_compose_tells():
    (container,) = made()["spec"]["template"]["spec"]["containers"]
    told = {one["name"]: one.get("value") for one in container["env"]}
    there = COMPOSE["orchestrator"]["environment"]
    # How runs are moved on is the orchestrator's own.
    own = {name for name in there if name.startswith("ULTRATHINK_ORCHESTRATOR_")} - {
        "ULTRATHINK_ORCHESTRATOR_POSTGRES_URL"
    }
    wanted = {name: as_in_kubernetes(str(value)) for name, value in there.items() if name not in own}
    assert {name: told.get(name) for name in wanted} == wanted
    assert told.keys() - wanted.keys() == {"ULTRATHINK_KAFKA_CA", "ORCHESTRATOR_DB_PASSWORD"}


def test_the_orchestrator_may_make_jobs_here_and_nothing_else():
    (role,) = [one for name, one in of("base", "Role").items() if name == "orchestrator"]
    allowed = {
        (resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]
    }
    assert allowed == {
        ("jobs", "create"), ("jobs", "get"), ("jobs", "delete"), ("pods", "list"), ("pods/log", "get"),
    }  # fmt: skip
    assert of("base", "ClusterRole") == {}

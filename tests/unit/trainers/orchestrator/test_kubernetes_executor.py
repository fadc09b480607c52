"""Steps as Jobs: against an API server of the tests' own, over its HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.paths import ROOT
from trading.errors import ConfigurationError, ServiceUnavailable
from trainers.orchestrator.admission import Need, Pool
from trainers.orchestrator.executors.kubernetes import KubernetesExecutor, from_within
from trainers.orchestrator.executors.manifests import job, read_template
from trainers.orchestrator.ports import Seen, StepTask

TEMPLATE = ROOT / "deploy/kubernetes/base/step-job.yaml"


class FakeCluster:
    """Jobs and pods in memory, asked as the API is."""

    def __init__(self):
        self.jobs, self.pods, self.asked = {}, {}, []
        self.refuse = ""

    def answer(self, request):
        path, method = request.url.path, request.method
        self.asked.append((method, path))
        if self.refuse:
            return httpx.Response(403, json={"message": self.refuse})
        if path.endswith("/jobs") and method == "POST":
            made = json.loads(request.content)
            name = made["metadata"]["name"]
            if name in self.jobs:
                return httpx.Response(409, json={"message": "exists"})
            self.jobs[name] = made | {"status": {"active": 1}}
            return httpx.Response(201, json=made)
        if "/jobs/" in path:
            name = path.rsplit("/", 1)[1]
            if name not in self.jobs:
                return httpx.Response(404, json={"message": "not found"})
            if method == "DELETE":
                assert request.url.params["propagationPolicy"] == "Background"
                del self.jobs[name]
            return httpx.Response(200, json=self.jobs.get(name, {}))
        if path.endswith("/pods"):
            name = request.url.params["labelSelector"].removeprefix("job-name=")
            return httpx.Response(200, json={"items": self.pods.get(name, [])})
        assert path.endswith("/log")
        return httpx.Response(200, text="first\nsecond\n")

    def end(self, name, kind, pod=None):
        self.jobs[name]["status"] = {"conditions": [{"type": kind, "status": "True", "message": "over"}]}
        self.pods[name] = [pod] if pod else []


@pytest.fixture
def cluster():
    return FakeCluster()


@pytest.fixture
def executor(cluster):
    client = httpx.Client(transport=httpx.MockTransport(cluster.answer), base_url="https://api")
    return KubernetesExecutor(Pool("cluster", 64_000, 24_000, 8), read_template(TEMPLATE), client, "desk")


def task(**given):
    return StepTask("abc", 3, "train", Need(3_000, **given))


def terminated(code, reason):
    return {"metadata": {"name": "p"}, "status": {"containerStatuses": [
        {"name": "step", "state": {"terminated": {"exitCode": code, "reason": reason}}}]}}  # fmt: skip


def test_a_step_becomes_a_job_with_its_needs_and_asks_for_a_gpu_where_it_needs_one(executor, cluster):
    assert executor.start(task(gpu_mb=8_000)) == "kubernetes:desk:step-abc-3"
    made = cluster.jobs["step-abc-3"]
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][-2:] == ["abc", "3"]
    assert (
        container["resources"]["limits"] | {"memory": "3000Mi", "nvidia.com/gpu": "1"}
        == container["resources"]["limits"]
    )
    assert made["spec"]["backoffLimit"] == 0
    assert made["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_without_a_gpu_none_is_asked_for():
    made = job(read_template(TEMPLATE), task())
    assert "nvidia.com/gpu" not in str(made)


def test_the_same_attempt_is_started_once(executor, cluster):
    assert executor.start(task()) == executor.start(task())
    assert len(cluster.jobs) == 1


@pytest.mark.parametrize(
    ("kind", "pod", "code", "out"),
    [
        ("Complete", None, 0, False),
        ("Failed", terminated(137, "OOMKilled"), 137, True),
        ("Failed", terminated(137, "Error"), 137, False),
        ("Failed", terminated(1, "Error"), 1, False),
        ("Failed", {"metadata": {"name": "p"}, "status": {"reason": "Evicted", "message": "disk"}}, None, None),
        ("Failed", None, None, None),
    ],
)
def test_how_it_ended_its_pod_tells(executor, cluster, kind, pod, code, out):
    reference = executor.start(task())
    assert executor.look(reference).lives
    cluster.end("step-abc-3", kind, pod)
    seen = executor.look(reference)
    assert (seen.lives, seen.exit_code, seen.out_of_memory) == (False, code, out)
    if pod and code is None:
        assert seen.why == "Evicted: disk"


def test_a_pod_that_waits_for_a_node_or_an_image_has_not_begun(executor, cluster):
    reference = executor.start(task())
    assert executor.look(reference).began is False
    for phase, began in (("Pending", False), ("Running", True)):
        cluster.pods["step-abc-3"] = [{"metadata": {"name": "p"}, "status": {"phase": phase}}]
        assert executor.look(reference) == Seen(True, began=began)


def test_one_that_was_deleted_lives_no_more_and_is_stopped_in_peace(executor, cluster):
    reference = executor.start(task())
    executor.stop(reference)
    assert executor.look(reference).why == "its Job was deleted"
    executor.stop(reference)
    assert executor.owns(reference)
    assert not executor.owns("kubernetes:other:step-abc-3")


def test_what_it_printed_is_the_pods(executor, cluster):
    reference = executor.start(task())
    with pytest.raises(ConfigurationError, match="nothing is kept"):
        list(executor.log("abc", 3))
    cluster.end("step-abc-3", "Failed", terminated(1, "Error"))
    assert list(executor.log("abc", 3)) == ["first", "second"]
    assert not executor.pause(reference, paused=True)


def test_a_refusal_says_what_was_refused(executor, cluster):
    cluster.refuse = "jobs.batch is forbidden"
    with pytest.raises(ServiceUnavailable, match="refuses POST .*: 403 jobs.batch is forbidden"):
        executor.start(task())


def test_outside_of_a_pod_it_says_so(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigurationError, match="set ULTRATHINK_ORCHESTRATOR_EXECUTOR=local"):
        from_within(tmp_path)


@pytest.mark.parametrize(
    "text", ["[]", "kind: Job", "kind: Pod\nspec: {template: {spec: {containers: [{name: step}]}}}", "a: ["]
)
def test_what_is_no_template_is_refused(tmp_path, text):
    path = Path(tmp_path / "job.yaml")
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="Job"):
        read_template(path)

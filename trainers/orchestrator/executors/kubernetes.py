"""Steps as Jobs of a Kubernetes cluster, by its REST API, from within a pod.

https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.33/#job-v1-batch
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from trading.errors import ConfigurationError, ServiceUnavailable
from trainers.orchestrator.admission import Pool
from trainers.orchestrator.executors.manifests import job, job_name
from trainers.orchestrator.ports import Seen, StepTask
from trainers.orchestrator.runs import Attempt

#: What every pod is given that may ask the API (Kubernetes: Accessing the API from a Pod).
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ASK_S = 10.0
#: Of a pod that was ended for want of memory.
OUT_OF_MEMORY = "OOMKilled"


class KubernetesExecutor:
    """Implements Executor.

    Args:
        pool: what of the cluster steps may take.
        template: of the Job, see `manifests`.
        client: of the API; its base address is the API server's.
        namespace: of the Jobs.
    """

    def __init__(self, pool: Pool, template: dict[str, Any], client: httpx.Client, namespace: str) -> None:
        self._pool, self._template, self._client, self._namespace = pool, template, client, namespace
        self._jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._pods = f"/api/v1/namespaces/{namespace}/pods"

    @property
    def pool(self) -> Pool:
        """See Executor."""
        return self._pool

    @property
    def holder(self) -> str:
        """See Executor: whoever asks is told how a Job ended."""
        return ""

    def is_held(self, holder: str) -> bool:
        """See Executor."""
        del holder
        return False

    def start(self, task: StepTask) -> str:
        """See Executor."""
        self._ask("POST", self._jobs, json=job(self._template, task), fine=(httpx.codes.CONFLICT,))
        return f"kubernetes:{self._namespace}:{job_name(task.run, task.fence)}"

    def owns(self, reference: str) -> bool:
        """See Executor."""
        return reference.startswith(f"kubernetes:{self._namespace}:")

    def adopt(self, attempt: Attempt) -> None:
        """See Executor. The cluster keeps its ceiling."""
        del attempt

    def look(self, reference: str) -> Seen:
        """See Executor."""
        name = name_of(reference)
        found = self._ask("GET", f"{self._jobs}/{name}", fine=(httpx.codes.NOT_FOUND,))
        if found.status_code == httpx.codes.NOT_FOUND:
            return Seen(False, why="its Job was deleted")
        status = found.json().get("status", {})
        over = {one["type"]: one for one in status.get("conditions", []) if one.get("status") == "True"}
        if "Complete" in over:
            return Seen(False, 0, out_of_memory=False)
        if "Failed" not in over:
            # Until its pod runs, nobody in it can say that it lives.
            return Seen(True, began=bool(status.get("ready")) or self._has_begun(name))
        return self._ended(name, over["Failed"].get("message", ""))

    def _pods_of(self, name: str) -> list[dict[str, Any]]:
        found = self._ask("GET", self._pods, params={"labelSelector": f"job-name={name}"}).json()
        return list(found.get("items", []))

    def _has_begun(self, name: str) -> bool:
        """Whether a pod of it left the state in which it waits for a node, or for its image."""
        return any(pod.get("status", {}).get("phase", "Pending") != "Pending" for pod in self._pods_of(name))

    def _ended(self, name: str, why: str) -> Seen:
        """How its container ended, as its pod tells."""
        for pod in self._pods_of(name):
            for container in pod.get("status", {}).get("containerStatuses", []):
                ended = container.get("state", {}).get("terminated")
                if ended:
                    reason = ended.get("reason", "")
                    return Seen(False, ended.get("exitCode"), reason == OUT_OF_MEMORY, why=reason)
            if reason := pod.get("status", {}).get("reason"):
                return Seen(False, None, why=f"{reason}: {pod['status'].get('message', '')}".rstrip(": "))
        return Seen(False, None, why=why)

    def stop(self, reference: str) -> None:
        """See Executor."""
        path = f"{self._jobs}/{name_of(reference)}"
        self._ask("DELETE", path, params={"propagationPolicy": "Background"}, fine=(httpx.codes.NOT_FOUND,))

    def pause(self, reference: str, *, paused: bool) -> bool:
        """See Executor. A Job that is suspended loses its pod; where nodes train, no desk decides on them."""
        del reference, paused
        return False

    def free_mb(self) -> int | None:
        """See Executor. The cluster's own quotas and scheduler know."""
        return None

    def log(self, run: str, fence: int) -> Iterator[str]:
        """See Executor."""
        pods = self._pods_of(job_name(run, fence))
        if not pods:
            raise ConfigurationError(f"nothing is kept of what attempt {fence} of run {run[:64]!r} printed")
        yield from self._ask("GET", f"{self._pods}/{pods[-1]['metadata']['name']}/log").text.splitlines()

    def forget(self, run: str) -> None:
        """See Executor. The cluster deletes what has ended by itself."""
        del run

    def _ask(self, method: str, path: str, fine: tuple[int, ...] = (), **given: Any) -> httpx.Response:
        try:
            found = self._client.request(method, path, **given)
        except httpx.HTTPError as error:
            raise ServiceUnavailable(f"Kubernetes does not answer: {error}") from error
        if found.is_success or found.status_code in fine:
            return found
        try:
            said = str(found.json().get("message", ""))
        except ValueError:
            said = found.text
        raise ServiceUnavailable(f"Kubernetes refuses {method} {path}: {found.status_code} {said[:300]}")


def name_of(reference: str) -> str:
    """Of the Job."""
    return reference.rpartition(":")[2]


def from_within(account: Path = ACCOUNT) -> tuple[httpx.Client, str]:
    """A client of the API and the namespace, from within a pod. Raises ConfigurationError elsewhere."""
    try:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        namespace = (account / "namespace").read_text().strip()
        trusted = ssl.create_default_context(cafile=os.fspath(account / "ca.crt"))
    except (KeyError, OSError) as error:
        raise ConfigurationError(
            f"this is no pod that may ask Kubernetes ({error}): set ULTRATHINK_ORCHESTRATOR_EXECUTOR=local"
        ) from error
    address = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    client = httpx.Client(
        base_url=address, verify=trusted, timeout=ASK_S, trust_env=False, auth=AccountToken(account / "token")
    )
    return client, namespace


class AccountToken(httpx.Auth):
    """The pod's token, read anew each time: the cluster replaces it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        """Add it."""
        request.headers["Authorization"] = f"Bearer {self._path.read_text().strip()}"
        yield request

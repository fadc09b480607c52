"""The Kubernetes Job that a step becomes: a template that the deployment gives, with the step's own names and
needs.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from trading.errors import ConfigurationError
from trainers.orchestrator.admission import Need
from trainers.orchestrator.ports import StepTask

GPU = "nvidia.com/gpu"
#: By these labels a run's Jobs are found.
RUN, FENCE = "ultrathink.io/run", "ultrathink.io/fence"
#: What has ended is deleted by the cluster after so long: what it printed is read until then.
KEPT_S = 86_400


def read_template(path: Path) -> dict[str, Any]:
    """A Job of a file. Raises ConfigurationError where it is none with one container that is called `step`."""
    try:
        found = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read as a Job: {error}") from error
    try:
        containers = found["spec"]["template"]["spec"]["containers"]
        names = [one["name"] for one in containers]
    except (KeyError, TypeError):
        raise ConfigurationError(f"{path} is no Job: it has no spec.template.spec.containers") from None
    if found.get("kind") != "Job" or names != ["step"]:
        raise ConfigurationError(f"{path} is no Job of one container that is called step")
    return dict(found)


def job(template: dict[str, Any], task: StepTask) -> dict[str, Any]:
    """The Job of a step: its name says which, so that the same is never there twice."""
    made = copy.deepcopy(template)
    labels = {RUN: task.run, FENCE: str(task.fence)}
    made.setdefault("metadata", {})
    made["metadata"]["name"] = job_name(task.run, task.fence)
    made["metadata"].setdefault("labels", {}).update(labels)
    spec = made["spec"]
    # Whether it is tried again the orchestrator says: it knows why it ended.
    spec.update(backoffLimit=0, ttlSecondsAfterFinished=KEPT_S)
    pod = spec["template"]
    pod.setdefault("metadata", {}).setdefault("labels", {}).update(labels)
    pod["spec"]["restartPolicy"] = "Never"
    container = pod["spec"]["containers"][0]
    container["args"] = [*container.get("args", []), task.run, str(task.fence)]
    container["resources"] = resources(task.need, container.get("resources", {}))
    return made


def job_name(run: str, fence: int) -> str:
    """Of an attempt."""
    return f"step-{run}-{fence}"


def resources(need: Need, told: dict[str, Any]) -> dict[str, Any]:
    """What is requested, and what the kernel keeps it to; a GPU where it needs one."""
    memory = f"{need.memory_mb}Mi"
    requests = {**told.get("requests", {}), "memory": memory}
    limits = {**told.get("limits", {}), "memory": memory}
    if need.gpu_mb:
        # Whole ones are all that Kubernetes shares out.
        requests[GPU] = limits[GPU] = "1"
    return {"requests": requests, "limits": limits}

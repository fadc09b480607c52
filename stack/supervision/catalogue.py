"""All processes of the stack, in the order in which they are shown."""

from __future__ import annotations

from stack.processes import desk
from stack.servers import kafka, mlflow, postgres, prometheus, redis, torchserve, triton
from stack.servers.server import Service
from stack.servers.settings import StackSettings


def services(settings: StackSettings) -> list[Service]:
    """Those of the profile that the settings name; Prometheus and Alertmanager only where they are installed."""
    found = [
        *kafka.services(settings),
        redis.service(settings),
        postgres.service(settings),
        mlflow.service(settings),
        triton.service(settings),
    ]
    if "torchserve" in settings.beside:
        found.append(torchserve.service(settings))
    found += prometheus.services(settings)
    if settings.profile in {"desk", "full"}:
        found += desk.services(settings)
    if settings.profile == "full":
        found += [desk.experiments(settings), desk.orchestrator(settings), desk.http(settings)]
    return found

"""Our own processes as the supervisor sees them: how each is started, asked, and what holds it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import httpx

from exporters.errors import ExportError
from exporters.repository.repository import ModelRepository
from gateway.settings import GatewaySettings
from stack.processes.own import PROGRAM
from stack.servers.loopback import client
from stack.servers.server import AtWork, NotReady, Service
from stack.servers.settings import LOOPBACK, StackSettings

#: What can be too slow to answer is asked again two seconds later.
ASK_S = 1.5
PREFIX = "ULTRATHINK_GATEWAY_"
#: What tells each where to listen.
PORTS = {
    "gateway": "ULTRATHINK_GATEWAY_METRICS_PORT",
    "paper-broker": "ULTRATHINK_BROKER_METRICS_PORT",
    "forensics": "ULTRATHINK_FORENSICS_METRICS_PORT",
    "data": "ULTRATHINK_DATA_PORT",
    "metrics": "ULTRATHINK_METRICS_PORT",
    "experiments": "ULTRATHINK_EXPERIMENTS_METRICS_PORT",
    "orchestrator": "ULTRATHINK_ORCHESTRATOR_PORT",
    "stack-http": "ULTRATHINK_PORTS__STACK",
}


def services(settings: StackSettings) -> list[Service]:
    """The gateway, the paper broker, the trail, the data service, and what watches the servers."""
    return [
        gateway(settings), paper_broker(settings), forensics(settings), data(settings), metrics(settings)
    ]  # fmt: skip


def gateway(settings: StackSettings) -> Service:
    """Decides; waits while no model is released. Its orders go to the paper broker, if nobody said otherwise."""
    port = settings.ports.gateway_metrics
    address = f"http://{LOOPBACK}:{port}"

    def probe() -> str:
        health, status = ask(f"{address}/healthz"), ask(f"{address}/status")
        if problems := health.get("problems"):
            raise NotReady("; ".join(problems))
        if "pipeline" not in status or status.get("restoring"):
            raise AtWork("; ".join(status.get("problems", [])) or "starting")
        return release()

    def troubles() -> list[str]:
        status = ask(f"{address}/status")
        state = status.get("trading_state", "unknown")
        stopped = (
            [] if state == "active" else [f"the desk is {state}: `ultrathink gateway resume` when it may trade"]
        )
        return [*stopped, *status.get("problems", [])]

    return own(
        settings, "gateway", ("gateway", "run"), address, port, probe, 1024,
        environment={PREFIX + "EXECUTION": "broker"},
        requires=("kafka", "redis", asked_server(settings)), uses=("paper-broker",),
        hold=lambda: model_missing(settings), troubles=troubles, stop_timeout_s=60.0,
    )  # fmt: skip


def paper_broker(settings: StackSettings) -> Service:
    """Answers orders."""
    port = settings.ports.broker_metrics

    return own(
        settings,
        "paper-broker",
        ("broker", "run"),
        f"{LOOPBACK}:{port}",
        port,
        answers(f"http://{LOOPBACK}:{port}/metrics"),
        512,
        requires=("kafka",),
    )


def forensics(settings: StackSettings) -> Service:
    """Puts everything on record; it yields to those that decide."""
    port = settings.ports.forensics_metrics
    address = f"http://{LOOPBACK}:{port}/metrics"

    def troubles() -> list[str]:
        lines = dict(line.rsplit(" ", 1) for line in answered(address).splitlines() if not line.startswith("#"))
        told = {
            "forensics_waiting": "waits for Kafka or PostgreSQL",
            "forensics_verification_findings": "the trail is not what was signed: `ultrathink forensics verify`",
            "forensics_signing_refused": "signs nothing: `ultrathink forensics alarms` says why",
        }
        return [words for name, words in told.items() if float(lines.get(name, 0))]

    return own(
        settings, "forensics", ("forensics", "run"), f"{LOOPBACK}:{port}", port, answers(address), 512,
        requires=("kafka", "postgres"), troubles=troubles, stop_timeout_s=30.0,
    )  # fmt: skip


def answers(address: str) -> Callable[[], str]:
    """A probe: something is answered there; and our version."""

    def probe() -> str:
        answered(address)
        return release()

    return probe


def of_sources(lines: Sequence[str], metric: str) -> dict[str, float]:
    """Source -> its figure, of what the metrics process tells."""
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines if line.startswith(f"{metric}{{")}


def of_sides(lines: Sequence[str], metric: str) -> dict[str, float]:
    """Experiment and from where it is looked at -> its figure, of what the experiments' process tells."""
    found = (line.split('"') for line in lines if line.startswith(f"{metric}{{"))
    return {f"{parts[1]} ({parts[3]})": float(parts[4].split()[-1]) for parts in found}


def metrics(settings: StackSettings) -> Service:
    """Tells Prometheus of the servers; it starts with what is there, and says what is not."""
    port = settings.ports.metrics
    address = f"http://{LOOPBACK}:{port}/metrics"

    def troubles() -> list[str]:
        lines = answered(address).splitlines()
        starting = of_sources(lines, "metrics_source_starting")
        up = of_sources(lines, "metrics_source_up")
        return [f"does not see {name}" for name, value in up.items() if not value and not starting.get(name)]

    return own(
        settings, "metrics", ("metrics", "serve"), f"{LOOPBACK}:{port}", port, answers(address), 256,
        requires=("kafka", "postgres"), uses=("redis", "mlflow"), troubles=troubles,
    )  # fmt: skip


def experiments(settings: StackSettings) -> Service:
    """Watches experiments, and puts the champion back where one does harm; it yields to those that decide."""
    port = settings.ports.experiments_metrics
    address = f"http://{LOOPBACK}:{port}/metrics"

    def troubles() -> list[str]:
        lines = answered(address).splitlines()
        watched, unkept = (of_sides(lines, f"experiments_{n}") for n in ("watched", "checkpoint_failed"))
        return [
            *(f"{name} runs, and is not watched: its log says why" for name, value in watched.items() if not value),
            *(f"what is counted of {name} cannot be kept: its log says why" for name, bad in unkept.items() if bad),
        ]

    return own(
        settings, "experiments", ("experiment", "run"), f"{LOOPBACK}:{port}", port, answers(address), 1024,
        requires=("kafka", "triton"), uses=("gateway",), troubles=troubles, stop_timeout_s=30.0,
    )  # fmt: skip


def orchestrator(settings: StackSettings) -> Service:
    """Moves trainings on; its steps are processes of their own, with ceilings of their own."""
    port = settings.ports.orchestrator
    address = f"http://{LOOPBACK}:{port}"

    def probe() -> str:
        health = ask(f"{address}/v1/health")
        if not health.get("ok"):
            raise AtWork(str(health.get("problem", "")))
        return release()

    def troubles() -> list[str]:
        paused = figure(answered(f"{address}/metrics"), "orchestrator_paused")
        return ["training stands still, so that the desk is quick"] if paused else []

    return own(
        settings, "orchestrator", ("orchestrator", "run"), address, port, probe, 768,
        requires=("postgres",), uses=("kafka", "mlflow", "triton", "gateway"), troubles=troubles,
        stop_timeout_s=30.0, sessions_apart=True,
    )  # fmt: skip


def figure(text: str, metric: str) -> float:
    """Of a metric without labels; 0 where there is none."""
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{metric} ")), 0.0)


def http(settings: StackSettings) -> Service:
    """The stack's own HTTP, for a console and scripts."""
    port = settings.ports.stack
    address = f"http://{LOOPBACK}:{port}"

    # What it is asked for it starts: a release's doctor has libraries of a gigabyte.
    return own(
        settings,
        "stack-http",
        ("stack", "serve"),
        address,
        port,
        answers(f"{address}/v1/health"),
        3072,
        stop_timeout_s=30.0,
    )


def data(settings: StackSettings) -> Service:
    """Answers for ticks, features and decisions."""
    port = settings.ports.data
    address = f"http://{LOOPBACK}:{port}"

    def probe() -> str:
        health = ask(f"{address}/v1/health")
        if not health.get("ok"):
            raise AtWork(named(health))
        return release()

    return own(
        settings, "data", ("data", "serve"), address, port, probe, 2048,
        requires=("kafka", "redis", "postgres"), uses=("forensics", "triton"),
        troubles=lambda: [told] if (told := named(ask(f"{address}/v1/health"))) else [], stop_timeout_s=30.0,
    )  # fmt: skip


def named(health: Mapping[str, Any]) -> str:
    """What of the data service does not answer."""
    return "; ".join(
        f"{part['name']}: {part['problem']}" for part in health.get("parts", ()) if part.get("problem")
    )


def own(
    settings: StackSettings,
    name: str,
    command: Sequence[str],
    endpoint: str,
    port: int,
    probe: Callable[[], str],
    memory_limit_mb: int,
    *,
    environment: Mapping[str, str] | None = None,
    **given: Any,
) -> Service:
    """A command of ours, with the variables that a person chose for the desk, but for its port, which is asked."""
    home = os.fspath(settings.absolute_home)
    told = {**(environment or {}), **settings.desk, "ULTRATHINK_HOME": home, PORTS[name]: str(port)}
    return Service(
        name=name,
        endpoint=endpoint,
        ports=(port,),
        command=lambda: [os.fspath(PROGRAM), *command],
        probe=probe,
        memory_limit_mb=memory_limit_mb,
        environment=lambda: told,
        **given,
    )


def asked_server(settings: StackSettings) -> str:
    """The name of what the gateway asks."""
    return settings.desk.get(PREFIX + "SERVER") or str(GatewaySettings.model_fields["server"].default)


def model_missing(settings: StackSettings) -> str:
    """Why there is nothing to decide with; "" where the gateway's model has a released version."""
    name = settings.desk.get(PREFIX + "MODEL_NAME") or str(GatewaySettings.model_fields["model_name"].default)
    torchserve = asked_server(settings) == "torchserve"
    if torchserve and "torchserve" not in settings.beside:
        return "no model server: `ultrathink stack up --with torchserve` starts it"
    repository = settings.torchserve_repository if torchserve else settings.model_repository
    repository = repository.expanduser().resolve()
    try:
        if ModelRepository(repository).serving(name).versions:
            return ""
    except ExportError as error:
        return f"no model: {error}"
    fuse = "--fuse " if name.endswith("_fused") else ""
    if torchserve:
        fuse = "--server torchserve "
    return f"no model: nothing of {name} is released in {repository}: `ultrathink export pipeline {fuse}--release`"


def release() -> str:
    """The version of this package."""
    return version("ultrathink-pilot")


def answered(address: str) -> str:
    """What is answered there. Raises NotReady."""
    try:
        return client().get(address, timeout=ASK_S).raise_for_status().text
    except httpx.HTTPError as error:
        raise NotReady(str(error)) from error


def ask(address: str) -> dict[str, Any]:
    """What is answered there, whatever its status says. Raises NotReady."""
    try:
        found = client().get(address, timeout=ASK_S).json()
    except (httpx.HTTPError, ValueError) as error:
        raise NotReady(str(error)) from error
    if not isinstance(found, dict):
        raise NotReady(f"{address} answers {str(found)[:80]}")
    return found

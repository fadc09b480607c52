"""The health matrix of a compose deployment, from what Docker says of its containers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from exporters.target.gpu_validation import FILE
from stack.supervision.machine import gpu_words
from stack.supervision.status import BACKING_OFF, FAILED, READY, STARTING, STOPPED, WAITING, ServiceStatus
from trading.errors import ConfigurationError, ServiceUnavailable

ASK_S = 30.0
MB = 2**20
UNITS = {
    "B": 1 / MB, "KIB": 1 / 2**10, "KB": 1e3 / MB, "MIB": 1.0, "MB": 1e6 / MB, "GIB": 1024.0, "GB": 1e9 / MB,
}  # fmt: skip
#: Of containers that run once.
ONCE = {"", "no", "on-failure"}
#: Runs `docker` with some words; returns what it printed.
Docker = Callable[[Sequence[str]], str]


def docker(folder: Path) -> Docker:
    """Docker, in the folder of the compose file. Raises ConfigurationError where it is not installed."""
    program = shutil.which("docker")
    if program is None:
        raise ConfigurationError("docker is not on PATH: `ultrathink stack status` alone is of the embedded stack")
    if not (folder / "docker-compose.yml").is_file():
        raise ConfigurationError(f"docker-compose.yml is not in {folder}: run this in its folder")

    def run(words: Sequence[str]) -> str:
        try:
            done = subprocess.run(
                [program, *words], capture_output=True, text=True, check=False, cwd=folder, timeout=ASK_S
            )
        except subprocess.TimeoutExpired as error:
            raise ServiceUnavailable(f"docker {' '.join(words[:3])} did not answer within {ASK_S:.0f} s") from error
        if done.returncode != 0:
            said = done.stderr.strip()
            # A client without the plugin takes compose's options for its own.
            if words[0] == "compose" and ("unknown shorthand flag" in said or "unknown command" in said):
                said = "this docker has no compose: install its plugin (Debian: docker-compose-plugin)"
            raise ServiceUnavailable(f"docker {' '.join(words[:3])}: {said[-300:]}")
        return done.stdout

    return run


def compose_status(ask: Docker, now: datetime | None = None) -> list[ServiceStatus]:
    """A row a container, by the name of its service. Raises ServiceUnavailable."""
    ids = ask(["compose", "ps", "-a", "-q"]).split()
    if not ids:
        return []
    usage = {
        str(one["ID"])[:12]: one for one in lines(ask(["stats", "--no-stream", "--format", "{{json .}}", *ids]))
    }
    inspected = json.loads(ask(["inspect", *ids]))
    at = now or datetime.now(UTC)
    rows = [row(one, usage.get(str(one["Id"])[:12], {}), at) for one in inspected]
    return sorted(rows, key=lambda found: found.name)


def gpu_validation(ask: Docker) -> list[str]:
    """What the containers have seen of the GPU: the file that the one-shot check has left, though it has ended."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        # Either has the volume that both write to.
        for service in ("gpu-check", "gpu-probe"):
            try:
                # `compose cp` takes nothing from a container that has ended.
                for container in ask(["compose", "ps", "-a", "-q", service]).split()[:1]:
                    ask(["cp", f"{container}:/validation/{FILE}", str(path)])
            except ServiceUnavailable:
                continue
            if path.exists():
                # Torch's version here is not that of the container.
                return gpu_words(path, "")
    return ["the GPU was never tried inside the containers: `docker compose up gpu-check gpu-probe`"]


def lines(text: str) -> list[dict[str, Any]]:
    """A document a line."""
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def row(one: dict[str, Any], usage: dict[str, Any], now: datetime) -> ServiceStatus:
    """Of `docker inspect` and `docker stats`."""
    state, host = one["State"], one.get("HostConfig", {})
    labels = one.get("Config", {}).get("Labels") or {}
    image = str(one.get("Config", {}).get("Image", ""))
    detail, found = health_detail(state), state_of(state)
    policy = str(host.get("RestartPolicy", {}).get("Name", ""))
    return ServiceStatus(
        name=str(labels.get("com.docker.compose.service") or one.get("Name", "").lstrip("/")),
        state=found,
        held="it has done its work" if found == STOPPED and policy in ONCE else "",
        endpoint=", ".join(published(one)),
        version=image.rpartition(":")[2] if ":" in image.rpartition("/")[2] else "",
        memory_mb=round(megabytes(str(usage.get("MemUsage", "")).partition("/")[0]), 1),
        memory_limit_mb=int(host.get("Memory", 0)) // MB,
        cpu_percent=percent(str(usage.get("CPUPerc", ""))),
        uptime_s=round(uptime(state, now), 1),
        restarts=int(one.get("RestartCount", 0)),
        last_exit=exit_of(state),
        detail=detail,
        out_of_memory=int(bool(state.get("OOMKilled"))),
        degraded=[detail] if state.get("Running") and detail else [],
    )


def state_of(state: dict[str, Any]) -> str:
    """In our words."""
    status, health = state.get("Status"), (state.get("Health") or {}).get("Status", "")
    if status == "running":
        return {"unhealthy": FAILED, "starting": STARTING}.get(health, READY)
    if status == "restarting":
        return BACKING_OFF
    if status in {"created", "paused"}:
        return WAITING
    return STOPPED if state.get("ExitCode") == 0 else FAILED


def health_detail(state: dict[str, Any]) -> str:
    """What its health check said last, where that failed."""
    health = state.get("Health") or {}
    log = health.get("Log") or []
    if health.get("Status") not in {"unhealthy", "starting"} or not log or log[-1].get("ExitCode") == 0:
        return ""
    return " ".join(str(log[-1].get("Output", "")).split())[:200]


def exit_of(state: dict[str, Any]) -> str:
    """How it ended last; "" where it never did."""
    ended = not str(state.get("FinishedAt", "0001")).startswith("0001")
    code = int(state.get("ExitCode", 0))
    if state.get("OOMKilled"):
        return "exit 137 (out of memory: the kernel ended it)"
    if not ended or (state.get("Running") and code == 0):
        return ""
    return "exit 137 (SIGKILL: out of memory, or killed by hand)" if code == 137 else f"exit {code}"


def published(one: dict[str, Any]) -> list[str]:
    """Addresses on this machine."""
    ports = one.get("NetworkSettings", {}).get("Ports") or {}
    return sorted(
        f"{binding.get('HostIp', '')}:{binding.get('HostPort', '')}"
        for some in ports.values()
        for binding in some or []
    )


def uptime(state: dict[str, Any], now: datetime) -> float:
    """Seconds since it was started, where it runs."""
    if not state.get("Running"):
        return 0.0
    # Nanoseconds are more than our dates have.
    text = re.sub(r"\.(\d{6})\d*", r".\1", str(state["StartedAt"])).replace("Z", "+00:00")
    return max(0.0, (now - datetime.fromisoformat(text)).total_seconds())


def megabytes(text: str) -> float:
    """Of "123.4MiB". 0 for what is no size."""
    found = re.match(r"\s*([\d.]+)\s*([A-Za-z]+)", text)
    return float(found[1]) * UNITS.get(found[2].upper(), 0.0) if found else 0.0


def percent(text: str) -> float:
    """Of "12.5%"."""
    found = re.match(r"\s*([\d.]+)%", text)
    return float(found[1]) if found else 0.0

"""Prometheus and Alertmanager, where the programs are installed: no wheel carries them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import httpx

from stack.servers.loopback import client
from stack.servers.server import NotReady, Service
from stack.servers.settings import LOOPBACK, StackSettings
from stack.watching import alerting, scraping
from trading.files import write_atomically

MISSING = (
    "prometheus is not on PATH: metrics are served but not collected, and nothing alarms (Debian: apt-get install "
    "prometheus prometheus-alertmanager)"
)
EXEMPLARS_SINCE = (2, 26)
ASK_S = 10.0


def program() -> str | None:
    """Prometheus' path, or None."""
    return shutil.which("prometheus")


def alertmanager_program() -> str | None:
    """Alertmanager's path, or None; Debian calls it otherwise."""
    return shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")


def services(settings: StackSettings) -> list[Service]:
    """Those whose programs are there."""
    found = [service(settings)] if program() is not None else []
    return [*found, alertmanager(settings)] if found and alertmanager_program() is not None else found


@cache
def exemplars(path: str) -> list[str]:
    """The option that keeps exemplars, for a Prometheus that knows it: an older one would not start with it."""
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=ASK_S)
    except (OSError, subprocess.TimeoutExpired):
        return []
    # Older ones print it on stderr.
    found = re.search(r"prometheus, version (\d+)\.(\d+)", told.stdout + told.stderr)
    return [scraping.EXEMPLARS] if found and (int(found[1]), int(found[2])) >= EXEMPLARS_SINCE else []


def targets(settings: StackSettings) -> dict[str, str]:
    """Job -> address, of what the profile starts."""
    ports = settings.ports
    found = {"triton": ports.triton_metrics, "prometheus": ports.prometheus}
    if alertmanager_program() is not None:
        found["alertmanager"] = ports.alertmanager
    if settings.profile != "servers":
        found |= {
            "gateway": ports.gateway_metrics, "forensics": ports.forensics_metrics, "data": ports.data,
            "paper-broker": ports.broker_metrics, "metrics": ports.metrics,
        }  # fmt: skip
    if settings.profile == "full":
        found |= {"experiments": ports.experiments_metrics, "orchestrator": ports.orchestrator}
    return {job: f"{LOOPBACK}:{port}" for job, port in found.items()}


def service(settings: StackSettings) -> Service:
    """Scrapes every process, and looks whether something is wrong."""
    folder = settings.absolute_home / "prometheus"
    address = f"http://{LOOPBACK}:{settings.ports.prometheus}"
    configuration, rules = folder / "prometheus.yml", folder / "alerts.yml"

    def prepare() -> None:
        receiver = f"{LOOPBACK}:{settings.ports.alertmanager}" if alertmanager_program() is not None else ""
        write(rules, alerting.rules())
        write(configuration, scraping.configuration(targets(settings), receiver, str(rules)))

    return Service(
        name="prometheus",
        endpoint=address,
        ports=(settings.ports.prometheus,),
        command=lambda: [
            program() or "prometheus",
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--storage.tsdb.retention.time={scraping.RETENTION}",
            f"--web.listen-address={LOOPBACK}:{settings.ports.prometheus}",
            *exemplars(program() or ""),
            "--log.level=warn",
        ],
        probe=lambda: version(address, f"{address}/api/v1/status/buildinfo"),
        memory_limit_mb=512,
        prepare=prepare,
        nice=5,
        folder=folder,
    )


def alertmanager(settings: StackSettings) -> Service:
    """Tells people, by the webhook that ULTRATHINK_ALERT_WEBHOOK names; its cluster listener is off."""
    folder = settings.absolute_home / "alertmanager"
    address = f"http://{LOOPBACK}:{settings.ports.alertmanager}"
    configuration = folder / "alertmanager.yml"
    return Service(
        name="alertmanager",
        endpoint=address,
        ports=(settings.ports.alertmanager,),
        command=lambda: [
            alertmanager_program() or "alertmanager",
            f"--config.file={configuration}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{settings.ports.alertmanager}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ],
        probe=lambda: version(address, f"{address}/api/v2/status"),
        memory_limit_mb=256,
        prepare=lambda: write(configuration, alerting.routing(settings.alert_webhook)),
        nice=5,
        folder=folder,
    )


def write(path: Path, document: object) -> None:
    """JSON is YAML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A webhook's address is often all that one needs to use it.
    write_atomically(path, json.dumps(document, indent=2), mode=0o600)


def version(address: str, told_at: str) -> str:
    """Which version answers there. Raises NotReady."""
    try:
        client().get(f"{address}/-/ready", timeout=1.0).raise_for_status()
        found = client().get(told_at, timeout=1.0).json()
        info = found.get("data") or found["versionInfo"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise NotReady(str(error)) from error
    return str(info["version"])

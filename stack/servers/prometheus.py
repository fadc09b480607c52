"""Prometheus, where the program is installed: no wheel carries it."""

from __future__ import annotations

import json
import shutil

import httpx

from stack.servers.loopback import client
from stack.servers.server import NotReady, Service
from stack.servers.settings import LOOPBACK, StackSettings
from trading.files import write_atomically

MISSING = "prometheus is not on PATH: metrics are served but not collected (Debian: apt-get install prometheus)"


def program() -> str | None:
    """The program's path, or None."""
    return shutil.which("prometheus")


def service(settings: StackSettings) -> Service:
    """Scrapes Triton and our own processes every five seconds."""
    folder = settings.absolute_home / "prometheus"
    address = f"http://{LOOPBACK}:{settings.ports.prometheus}"
    configuration = folder / "prometheus.yml"

    def prepare() -> None:
        targets = {
            "triton": f"{LOOPBACK}:{settings.ports.triton_metrics}",
            "gateway": f"{LOOPBACK}:{settings.ports.gateway_metrics}",
            "forensics": f"{LOOPBACK}:{settings.ports.forensics_metrics}",
            "data": f"{LOOPBACK}:{settings.ports.data}",
        }
        jobs = [{"job_name": job, "static_configs": [{"targets": [at]}]} for job, at in targets.items()]
        # JSON is YAML.
        text = json.dumps({"global": {"scrape_interval": "5s"}, "scrape_configs": jobs}, indent=2)
        write_atomically(configuration, text)

    def probe() -> str:
        try:
            client().get(f"{address}/-/ready", timeout=1.0).raise_for_status()
            build = client().get(f"{address}/api/v1/status/buildinfo", timeout=1.0).json()
        except (httpx.HTTPError, ValueError) as error:
            raise NotReady(str(error)) from error
        return str(build["data"]["version"])

    return Service(
        name="prometheus",
        endpoint=address,
        ports=(settings.ports.prometheus,),
        command=lambda: [
            program() or "prometheus",
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{settings.ports.prometheus}",
            "--log.level=warn",
        ],
        probe=probe,
        memory_limit_mb=512,
        prepare=prepare,
        folder=folder,
    )

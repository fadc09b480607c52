"""MLflow's tracking server and registry: backend store in PostgreSQL, artefacts in a folder."""

from __future__ import annotations

import sys

import httpx

from stack.servers.loopback import client
from stack.servers.server import NotReady, Service
from stack.servers.settings import LOOPBACK, StackSettings


def service(settings: StackSettings) -> Service:
    """One worker: it serves a desk, not a crowd."""
    folder = settings.absolute_home / "mlflow"
    port = settings.ports.mlflow

    def command() -> list[str]:
        return [
            *(sys.executable, "-W", "ignore", "-m", "mlflow", "server"),
            *("--host", LOOPBACK, "--port", str(port), "--workers", "1"),
            *("--artifacts-destination", str(folder / "artifacts")),
        ]

    def probe() -> str:
        try:
            healthy = client().get(f"{settings.mlflow_uri}/health", timeout=1.0)
            version = client().get(f"{settings.mlflow_uri}/version", timeout=1.0)
        except httpx.HTTPError as error:
            raise NotReady(str(error)) from error
        if healthy.status_code != 200:
            raise NotReady(f"/health answers {healthy.status_code}")
        return version.text

    def prepare() -> None:
        (folder / "artifacts").mkdir(parents=True, exist_ok=True)

    return Service(
        name="mlflow",
        endpoint=settings.mlflow_uri,
        ports=(port,),
        command=command,
        probe=probe,
        memory_limit_mb=1536,
        prepare=prepare,
        requires=("postgres",),
        folder=folder,
        environment=lambda: {
            # In the environment, not on the command line, where every user could read the password.
            "MLFLOW_BACKEND_STORE_URI": settings.postgres_url("mlflow").replace(
                "postgresql://", "postgresql+psycopg://"
            ),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "GIT_PYTHON_REFRESH": "quiet",
            "PYTHONWARNINGS": "ignore",
        },
    )

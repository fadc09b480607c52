"""The gateway's HTTP side: health, readiness, status and metrics for all; commands with a token."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry

from connectors.listening import bind
from trading.errors import UltraThinkError


class Health(Struct, frozen=True):
    """Why not, if not."""

    ok: bool
    problems: list[str]


class AdminPort(Struct, frozen=True):
    """What the HTTP side asks of the gateway. `command` raises ValueError or UltraThinkError."""

    health: Callable[[], Health]
    readiness: Callable[[], Health]
    status: Callable[[], dict[str, Any]]
    command: Callable[[str, dict[str, str]], str]
    registry: CollectorRegistry


class AdminServer:
    """Serves in a thread; importing the web framework happens there too, beside the group's join."""

    def __init__(self, host: str, port: int, token: str) -> None:
        """Bind; `serve` begins to answer. Raises ConfigurationError when the port is taken."""
        self._token = token
        self._socket = bind(host, port, "--metrics-port or ULTRATHINK_GATEWAY_METRICS_PORT")
        self.port = int(self._socket.getsockname()[1])
        self._server: Any = None
        self._closing = False
        self._gateway: AdminPort | None = None
        self._thread: threading.Thread | None = None

    def serve(self, gateway: AdminPort) -> None:
        """Answer for this gateway from now on, and no longer for one that was told before."""
        self._gateway = gateway
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="admin", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._closing = True
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(2.0)
        self._socket.close()

    def _serve(self) -> None:
        import uvicorn

        app = application(self._answering, self._token)
        config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        if not self._closing:
            self._server.run(sockets=[self._socket])

    def _answering(self) -> AdminPort:
        if self._gateway is None:
            raise AssertionError("nothing is served before a gateway is told")
        return self._gateway


def application(answering: Callable[[], AdminPort], token: str) -> Any:
    """The FastAPI application of whoever answers at the time."""
    from fastapi import Body, Depends, FastAPI, Header, HTTPException, Response
    from prometheus_client import CONTENT_TYPE_LATEST as PLAIN
    from prometheus_client import generate_latest as plain
    from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
    from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

    app = FastAPI(title="UltraThink gateway", docs_url=None, redoc_url=None, openapi_url=None)

    def as_json(value: object, code: int = 200) -> Response:
        return Response(msgspec.json.encode(value), code, media_type="application/json")

    def serve_health(ask: Callable[[AdminPort], Health]) -> Callable[[], Any]:
        def answer() -> Any:
            found = ask(answering())
            return as_json(found, 200 if found.ok else 503)

        return answer

    def metrics(accept: str = Header("")) -> Any:
        # Exemplars are in OpenMetrics alone, which Prometheus asks for.
        encode, kind = (openmetrics, OPENMETRICS) if "application/openmetrics-text" in accept else (plain, PLAIN)
        return Response(encode(answering().registry), headers={"Content-Type": kind})

    def command(name: str, given: dict[str, str] = Body(default={})) -> dict[str, str]:  # noqa: B008
        try:
            return {"done": answering().command(name, given)}
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        except UltraThinkError as error:
            raise HTTPException(503, str(error)) from error

    app.get("/healthz")(serve_health(lambda gateway: gateway.health()))
    app.get("/readyz")(serve_health(lambda gateway: gateway.readiness()))
    app.get("/metrics")(metrics)
    app.get("/status")(lambda: as_json(answering().status()))
    app.post("/commands/{name}", dependencies=[Depends(bearer(token))])(command)
    return app


def bearer(token: str) -> Callable[..., None]:
    """Refuses whoever does not know the token; without a token, everybody."""
    from fastapi import Header, HTTPException

    def allowed(authorization: str = Header("")) -> None:
        if not token:
            raise HTTPException(403, "no admin token is set: ULTRATHINK_GATEWAY_ADMIN_TOKEN")
        if not secrets.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "wrong or no token: send `Authorization: Bearer TOKEN`")

    return allowed

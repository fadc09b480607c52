"""The application: routes, and what every refusal looks like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException

from services.data.api import models
from services.data.api.analyses import analysis_routes
from services.data.api.formats import ARROW, CSV, JSON, NDJSON, answer
from services.data.api.guard import OPEN, problem
from services.data.api.jobs import Jobs
from services.data.api.live import Tails, live_routes
from services.data.api.market import market_routes
from services.data.api.trail import trail_routes
from services.data.errors import Refused, Unavailable, Unprocessable
from services.data.market.questions import MarketQuestions
from services.data.ports import Analyses, Evidence
from services.data.trail.queries import TrailQuestions
from trading.errors import BadRecord, ConfigurationError, ServiceUnavailable

DESCRIPTION = """
What a desk knew, and what it did: ticks and features as its gateway saw them, decisions with their evidence,
positions, profit, limits; and what would have been. Times are ns since 1970 UTC (`*_ns`) or RFC 3339. Lists are
JSON, NDJSON, CSV or an Arrow stream, by `Accept`; what follows a page is named by `next` and by a `Link`.
"""
#: Every route may say these; the words are those of `services.data.errors`.
REFUSALS = {
    400: "it is no request", 401: "no token, or one that nobody gave out", 403: "the token may not ask this",
    404: "there is no such thing", 405: "the path is not asked so", 406: "no format that is accepted is given",
    408: "it was not sent in time",
    409: "several answers, or none yet", 413: "the body is too long",
    422: "a value that is none, or a span that is too long",
    429: "more than is allowed, or than can be done; Retry-After says when to come again",
    503: "a server that is needed does not answer; the message names it",
}  # fmt: skip


class DataService(Struct, frozen=True):
    """Everything that is asked."""

    market: MarketQuestions
    trail: TrailQuestions
    evidence: Evidence
    analyses: Analyses
    jobs: Jobs
    tails: Tails
    health: Callable[[], dict[str, Any]]
    observe: Callable[[], None]
    registry: CollectorRegistry
    most_days: int


def application(service: DataService) -> FastAPI:
    """The routes of a service, without the guard before them."""
    told: dict[int | str, dict[str, Any]] = {
        status: {"model": models.Problem, "description": why} for status, why in REFUSALS.items()
    }
    app = FastAPI(
        title="UltraThink data service", version="1", description=DESCRIPTION, responses=told, docs_url=None,
        redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    # Before the routes that would take its paths for symbols or ids.
    app.include_router(live_routes(service.market, service.trail, service.tails))
    app.include_router(market_routes(service.market))
    app.include_router(trail_routes(service.trail, service.evidence, service.jobs, service.most_days))
    app.include_router(analysis_routes(service.analyses, service.jobs, service.trail))

    @app.get(
        "/v1/health", response_model=models.Health, responses={503: {"model": models.Health}}, tags=["service"],
        summary="What answers, and what cannot",
    )  # fmt: skip
    def health() -> Response:
        found = service.health()
        return answer(found, status=200 if found["ok"] else 503)

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        service.observe()
        return Response(generate_latest(service.registry), media_type=CONTENT_TYPE_LATEST)

    add_refusals(app)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app


def add_refusals(app: FastAPI) -> None:
    """Every error of ours, and of the framework, in one form."""

    def refused(_: Request, error: Exception) -> Response:
        found = error if isinstance(error, Refused) else to_refusal(error)
        headers = {"Cache-Control": "no-store"}
        if found.retry_after_s:
            headers["Retry-After"] = str(found.retry_after_s)
        return Response(problem(found.code, str(found)), found.status, headers, JSON)

    def invalid(_: Request, error: Exception) -> Response:
        first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"][1:] if not isinstance(part, int)) or "the body"
        if first.get("type") == "model_attributes_type":
            first = {**first, "msg": "send a JSON object, with Content-Type: application/json"}
        given = (
            f" (given: {str(first['input'])[:100]!r})" if isinstance(first.get("input"), str | int | float) else ""
        )
        return Response(problem("unprocessable", f"{where}: {first['msg']}{given}"), 422, media_type=JSON)

    def plain(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        words = {404: ("not_found", "nothing is answered here: /openapi.json lists what is"),
                 405: ("method_not_allowed", "this path is not asked so: /openapi.json says how")}  # fmt: skip
        code, message = words.get(status, ("bad_request", str(getattr(error, "detail", error))))
        headers = dict(getattr(error, "headers", None) or {})
        return Response(problem(code, message), status, headers, JSON)

    for kind in (Refused, ServiceUnavailable, ConfigurationError, BadRecord):
        app.add_exception_handler(kind, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)


def to_refusal(error: Exception) -> Refused:
    """What the domain raises, as it is answered."""
    if isinstance(error, ServiceUnavailable):
        return Unavailable(str(error), retry_after_s=1)
    return Unprocessable(str(error))


def document(app: FastAPI) -> dict[str, Any]:
    """OpenAPI, with who may ask and the formats of lists."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        made.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, methods in made["paths"].items():
            for method in methods.values():
                if path not in OPEN:
                    method["security"] = [{"token": []}]
                content = method["responses"].get("200", {}).get("content", {})
                schema = content.get(JSON, {}).get("schema", {}).get("$ref", "")
                # Those with a cursor are lists, and lists come in other formats too.
                if schema.endswith("List") and method.get("operationId", "").endswith("get"):
                    content |= {NDJSON: {}, CSV: {}, ARROW: {}}
        app.openapi_schema = made
    return app.openapi_schema

"""The routes."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any

import msgspec
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException

from trading.encoding import safe_text
from trading.errors import BadRecord, ConfigurationError, ServiceUnavailable, UltraThinkError
from trainers.orchestrator.api import models
from trainers.orchestrator.explaining import explanation
from trainers.orchestrator.ports import Executor
from trainers.orchestrator.runs import RunRequest
from trainers.orchestrator.schedules import Schedule
from trainers.orchestrator.store import Store
from trainers.orchestrator.store.schedules import KeptSchedule

DESCRIPTION = """
The training orchestrator: runs, the attempts at their steps, schedules, and what fired. What changes something
names a reason, which goes on record. Times are seconds since 1970.
"""
JSON = "application/json"
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": models.Problem, "description": why}
    for status, why in {
        401: "no token, or a wrong one", 404: "there is no such thing", 409: "it cannot be done to it as it stands",
        422: "a value that is none", 503: "a server that is needed does not answer; the message names it",
    }.items()
}  # fmt: skip
CODES = {400: "bad_request", 401: "unauthorized", 404: "not_found", 405: "method_not_allowed", 409: "conflict",
         422: "unprocessable", 503: "unavailable"}  # fmt: skip
MOST_PAGE, MOST_LINES = 500, 2000
HTTP = "over HTTP"
#: When a schedule is due next is told this far ahead, and so often.
AHEAD, NEXT = timedelta(days=400), 3


class Orchestration(Struct, frozen=True):
    """What is asked.

    Attributes:
        store: runs and schedules.
        executor: what steps printed.
        check: raises ConfigurationError where a request's spec is none.
        standing: why runs cannot be looked at, why training stands still, and which sensors cannot look.
        registry: metrics.
    """

    store: Store
    executor: Executor
    check: Callable[[RunRequest], None]
    standing: Callable[[], tuple[str, str, list[str]]]
    registry: CollectorRegistry


def application(asked: Orchestration, token: str) -> FastAPI:
    """The application; every request but for health, metrics and the document needs the token."""
    app = FastAPI(
        title="UltraThink orchestrator", version="1", description=DESCRIPTION, docs_url=None, redoc_url=None,
        responses=REFUSALS, redirect_slashes=False,
    )  # fmt: skip
    known = [Depends(bearer(token))]

    @app.get("/v1/health", response_model=models.Health, tags=["service"])
    def health(response: Response) -> Any:
        """Whether it looks at its runs."""
        problem = asked.standing()[0]
        response.status_code = 503 if problem else 200
        return {"ok": not problem, "problem": problem}

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(asked.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/status", response_model=models.StatusAnswer, dependencies=known, tags=["service"])
    def status() -> Any:
        """What is open, what of the pool is taken, and why training stands still, where it does."""
        problem, paused, unseen = asked.standing()
        pool = asked.executor.pool
        taken = asked.store.runs.taken(pool.name)
        told = {**plain(pool), **{f"taken_{name}": value for name, value in plain(taken).items()}}
        standing = [run for state in ("running", "ready") for run in asked.store.runs.listed(MOST_PAGE, state)]
        return {"problem": problem, "paused": paused, "unseen": unseen, "pool": told, "open": plain(standing)}

    add_runs(app, asked, known)
    add_commands(app, asked, known)
    add_schedules(app, asked, known)
    add_refusals(app)
    return app


def plain(value: Any) -> Any:
    """As JSON has it."""
    return msgspec.to_builtins(value)


def bearer(token: str) -> Callable[..., None]:
    """Refuses whoever does not know the token; where there is none, everybody."""

    def allowed(authorization: str = Header("")) -> None:
        given = authorization.encode("utf-8", "surrogateescape")
        if not token or not secrets.compare_digest(given, f"Bearer {token}".encode()):
            raise HTTPException(401, "wrong or no token: send `Authorization: Bearer TOKEN`")

    return allowed


def add_runs(app: FastAPI, asked: Orchestration, known: Sequence[Any]) -> None:
    """What is known of runs."""
    runs = asked.store.runs

    @app.get("/v1/runs", response_model=models.RunPage, dependencies=known, tags=["runs"])
    def listed(
        state: Annotated[str, Query(pattern="^(ready|running|ended|)$")] = "",
        before: Annotated[
            str, Query(pattern="^[a-z0-9-]{0,64}$", description="only those submitted before this one")
        ] = "",
        limit: Annotated[int, Query(ge=1, le=MOST_PAGE)] = 50,
    ) -> Any:
        """The newest first."""
        found = runs.listed(limit, state, before)
        behind = f"/v1/runs?state={state}&limit={limit}&before={found[-1].id}" if len(found) == limit else None
        return {"runs": plain(found), "next": behind}

    @app.get("/v1/runs/{run}", response_model=models.RunDetail, dependencies=known, tags=["runs"])
    def one(run: models.RunId) -> Any:
        """One run, the attempts at its steps, and why it stands where it does."""
        found, attempts = runs.get(run), runs.attempts(run)
        return {"run": plain(found), "attempts": plain(attempts), "explanation": explanation(found, attempts)}

    @app.get("/v1/runs/{run}/history", response_model=list[models.LineAnswer], dependencies=known, tags=["runs"])
    def history(run: models.RunId, limit: Annotated[int, Query(ge=1, le=MOST_PAGE)] = 100) -> Any:
        """What happened to it, the newest first."""
        runs.get(run)
        return plain(asked.store.history.lines(run, limit))

    @app.get("/v1/runs/{run}/logs/{fence}", response_model=models.LogAnswer, dependencies=known, tags=["runs"])
    def log(run: models.RunId, fence: models.Fence, lines: Annotated[int, Query(ge=1, le=MOST_LINES)] = 200) -> Any:
        """The end of what an attempt has printed; `fence` is its number."""
        runs.get(run)
        kept = deque(asked.executor.log(run, fence), maxlen=lines)
        return {"run": run, "fence": fence, "lines": [safe_text(line) for line in kept]}

    @app.get("/v1/history", response_model=list[models.LineAnswer], dependencies=known, tags=["service"])
    def all_history(limit: Annotated[int, Query(ge=1, le=MOST_PAGE)] = 100) -> Any:
        """What happened at all, the newest first."""
        return plain(asked.store.history.lines("", limit))

    @app.get("/v1/firings", dependencies=known, tags=["service"])
    def firings(limit: Annotated[int, Query(ge=1, le=MOST_PAGE)] = 50) -> Any:
        """What fired, and how it was ruled on, the newest first."""
        return plain(asked.store.history.firings(limit))


def add_commands(app: FastAPI, asked: Orchestration, known: Sequence[Any]) -> None:
    """What is wanted of runs."""
    runs = asked.store.runs

    @app.post("/v1/runs", response_model=models.RunAnswer, status_code=201, dependencies=known, tags=["runs"])
    def submit(wanted: models.AskedRun, response: Response) -> Any:
        """Submit a run; 200 and the run of before where its key was submitted already."""
        request = RunRequest(
            kind=wanted.kind, spec=wanted.spec, priority=wanted.priority, trigger="hand",
            trigger_key=f"hand/{wanted.key}" if wanted.key else "", reason=wanted.reason, by=who(wanted),
        )  # fmt: skip
        refusing(422, lambda: asked.check(request))
        run, is_new = refusing(422, lambda: runs.submit(request))
        response.status_code = 201 if is_new else 200
        return plain(run)

    @app.post("/v1/runs/{run}/cancel", response_model=models.RunAnswer, dependencies=known, tags=["runs"])
    def cancel(run: models.RunId, wanted: models.AskedCommand) -> Any:
        """Have it end; what others see of it is put back first."""
        runs.get(run)
        return plain(refusing(409, lambda: runs.cancel(run, wanted.reason, who(wanted))))

    @app.post("/v1/runs/{run}/retry", response_model=models.RunAnswer, dependencies=known, tags=["runs"])
    def retry(run: models.RunId, wanted: models.AskedCommand) -> Any:
        """Try the step again at which it failed, or was cancelled."""
        runs.get(run)
        return plain(refusing(409, lambda: runs.retry(run, wanted.reason, who(wanted))))


def add_schedules(app: FastAPI, asked: Orchestration, known: Sequence[Any]) -> None:
    """Runs by the clock."""
    schedules = asked.store.schedules

    @app.get("/v1/schedules", response_model=list[models.ScheduleAnswer], dependencies=known, tags=["schedules"])
    def listed() -> Any:
        """All, and when they are due next."""
        now = datetime.now(UTC)
        return [told(kept, now) for kept in schedules.listed()]

    @app.put("/v1/schedules/{name}", response_model=models.ScheduleAnswer, dependencies=known, tags=["schedules"])
    def put(name: models.ScheduleName, wanted: models.AskedSchedule) -> Any:
        """Make one known, or change it."""
        made = Schedule(
            name=name, cron=wanted.cron, tz=wanted.tz, kind=wanted.kind, spec=wanted.spec, priority=wanted.priority,
            missed=wanted.missed,
        )  # fmt: skip
        request = RunRequest(kind=made.kind, spec=made.spec, reason=wanted.reason, by=who(wanted))
        refusing(422, lambda: made.check(datetime.now(UTC)))
        refusing(422, lambda: asked.check(request))
        refusing(422, lambda: schedules.put(made, f"{who(wanted)}: {wanted.reason}"))
        return told(next(one for one in schedules.listed() if one.schedule.name == name), datetime.now(UTC))

    @app.post("/v1/schedules/{name}/pause", status_code=204, dependencies=known, tags=["schedules"])
    def pause(name: models.ScheduleName, wanted: models.AskedCommand) -> Response:
        """Have it begin nothing."""
        schedules.pause(name, f"{who(wanted)}: {wanted.reason}", paused=True)
        return Response(status_code=204)

    @app.post("/v1/schedules/{name}/resume", status_code=204, dependencies=known, tags=["schedules"])
    def resume(name: models.ScheduleName, wanted: models.AskedCommand) -> Response:
        """Have it go on: what passed meanwhile is not made up for."""
        schedules.pause(name, f"{who(wanted)}: {wanted.reason}", paused=False)
        return Response(status_code=204)

    @app.delete("/v1/schedules/{name}", status_code=204, dependencies=known, tags=["schedules"])
    def remove(name: models.ScheduleName) -> Response:
        """Take it away; what it began goes on."""
        schedules.remove(name, HTTP)
        return Response(status_code=204)

    @app.get("/v1/slots", dependencies=known, tags=["schedules"])
    def slots(
        schedule: Annotated[str, Query(pattern="^[a-z0-9-]{0,48}$")] = "",
        limit: Annotated[int, Query(ge=1, le=MOST_PAGE)] = 50,
    ) -> Any:
        """Slots that were decided, the newest first: each with its run, or why there is none."""
        return plain(asked.store.history.slots(schedule, limit))


def told(kept: KeptSchedule, now: datetime) -> dict[str, Any]:
    """A schedule, and when it is due next."""
    due = islice(kept.schedule.slots(now, now + AHEAD), NEXT)
    return {**plain(kept), "next_s": [] if kept.paused else [at.timestamp() for at in due]}


def who(asked: models.AskedCommand) -> str:
    """Whoever has the token may call himself anything: that it came this way stays on record."""
    return f"{asked.by} {HTTP}" if asked.by else HTTP


def refusing(status: int, work: Callable[[], Any]) -> Any:
    """What our own words refuse, with a status that fits."""
    try:
        return work()
    except ServiceUnavailable:
        raise
    except UltraThinkError as error:
        raise HTTPException(status, str(error)) from error


def add_refusals(app: FastAPI) -> None:
    """Every error in one form."""

    def refused(_: Request, error: Exception) -> Response:
        status = 503 if isinstance(error, ServiceUnavailable) else 422 if isinstance(error, BadRecord) else 404
        return answer(status, str(error))

    def invalid(_: Request, error: Exception) -> Response:
        first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"][1:]) or "the body"
        return answer(422, f"{where}: {first['msg']}")

    def plainly(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        words = {404: "nothing is answered here: /openapi.json lists what is",
                 405: "this path is not asked so: /openapi.json says how"}  # fmt: skip
        detail = str(getattr(error, "detail", error))
        return answer(status, words[status] if detail in {"Not Found", "Method Not Allowed"} else detail)

    for kind in (ServiceUnavailable, ConfigurationError, BadRecord):
        app.add_exception_handler(kind, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plainly)


def answer(status: int, message: str) -> Response:
    """A refusal."""
    body = msgspec.json.encode({"error": {"code": CODES.get(status, "error"), "message": safe_text(message)}})
    headers = {"Cache-Control": "no-store", **({"Retry-After": "1"} if status == 503 else {})}
    return Response(body, status, headers, JSON)

"""The routes: status, logs, restart, release and rollback with the doctor's verdict, load tests."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse

from exporters.target.findings import Finding
from stack.api import models
from stack.api.experiments import add_experiments
from stack.api.models import WaitOption
from stack.api.operations import InTheWay, Operation, Operations, Step
from stack.servers.log_files import find_log, tail
from stack.supervision.status import StackStatus
from stack.watching.alerts import ALERTS
from stack.watching.runbook import page as page_of
from trading.encoding import safe_text
from trading.errors import ConfigurationError, ServiceUnavailable

DESCRIPTION = """
The desk of one machine: what runs, what it says, and what an operator does about it. What takes long is an
*operation*: it is begun, has an id, and is asked for its end; `wait_s` waits for that. Times are s since 1970.
"""
#: Between two looks at a log that is followed.
FOLLOW_S = 0.25
#: Between two looks whether an operation is over.
LOOK_S = 0.1
KEEP_ALIVE_S = 10.0
REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": models.Problem, "description": "no token, or a wrong one"},
    404: {"model": models.Problem, "description": "there is no such thing"},
    409: {"model": models.Problem, "description": "one of that kind runs already, or it is not confirmed"},
    503: {"model": models.Problem, "description": "no stack runs here"},
}


class Desk(msgspec.Struct, frozen=True):
    """What is asked.

    Attributes:
        home: of the stack.
        status: of its supervisor; None where nothing runs.
        doctor: what would stop a start.
        operations: what is done.
    """

    home: Path
    status: Callable[[], StackStatus | None]
    doctor: Callable[[], list[Finding]]
    operations: Operations


def application(desk: Desk, token: str) -> FastAPI:
    """The application; every request but for health and the document needs the token."""
    app = FastAPI(
        title="UltraThink stack", version="1", description=DESCRIPTION, docs_url=None, redoc_url=None,
        responses=REFUSALS,
    )  # fmt: skip
    known = [Depends(bearer(token))]

    @app.get("/v1/health", tags=["service"])
    async def health() -> dict[str, bool]:
        """Whether this answers; nothing of the desk."""
        return {"ok": True}

    @app.get("/v1/status", response_model=models.Status, dependencies=known, tags=["desk"])
    def status() -> Any:
        """The health matrix."""
        found = running(desk)
        return {
            **msgspec.to_builtins(found), "ready": found.ready, "alive": found.alive,
            "age_s": round(max(0.0, time.time() - found.at_s), 3),
        }  # fmt: skip

    @app.get("/v1/doctor", response_model=list[models.Finding], dependencies=known, tags=["desk"])
    def doctor() -> Any:
        """What would stop a start of this desk, or slow it down."""
        return msgspec.to_builtins(desk.doctor())

    @app.get("/v1/runbook", response_model=list[models.Alert], dependencies=known, tags=["desk"])
    def runbook() -> Any:
        """Every alert that there is."""
        return [{"name": one.name, "severity": one.severity, "summary": one.summary} for one in ALERTS]

    @app.get("/v1/runbook/{name}", response_model=models.Page, dependencies=known, tags=["desk"])
    def page(name: str) -> Any:
        """What an alert means, what to look at, what to do, and how to know that it is over, as Markdown."""
        try:
            return {"page": page_of(name)}
        except ConfigurationError as error:
            raise HTTPException(404, str(error)) from error

    app.add_exception_handler(RequestValidationError, refused)
    add_logs(app, desk, known)
    add_actions(app, desk, known)
    add_operations(app, desk, known)
    add_experiments(app, desk.home, desk.operations, partial(begun, desk), known)
    return app


async def refused(_: Request, error: Exception) -> JSONResponse:
    """What is wrong with a request, where and why; without what was sent, which may be no text at all."""
    wrong = error.errors() if isinstance(error, RequestValidationError) else []
    told = [{"loc": list(one["loc"]), "msg": safe_text(str(one["msg"])), "type": one["type"]} for one in wrong]
    return JSONResponse({"detail": told}, 422)


def bearer(token: str) -> Callable[..., None]:
    """Refuses whoever does not know the token."""

    def allowed(authorization: str = Header("")) -> None:
        if not token or not secrets.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "wrong or no token: send `Authorization: Bearer TOKEN`")

    return allowed


def running(desk: Desk) -> StackStatus:
    """The status of what runs. Raises HTTPException where nothing does."""
    if (found := desk.status()) is None:
        raise HTTPException(503, f"nothing runs in {desk.home}: `ultrathink stack up`")
    return found


def known_service(desk: Desk, name: str) -> str:
    """A name that the status has. Raises HTTPException."""
    if name not in (names := [service.name for service in running(desk).services]):
        raise HTTPException(404, f"there is no {name!r}; there are: {', '.join(names)}")
    return name


def add_logs(app: FastAPI, desk: Desk, known: Sequence[Any]) -> None:
    """Ends of logs, once and followed."""

    def log_of(name: str) -> Path:
        try:
            return find_log(desk.home, name)
        except ConfigurationError as error:
            raise HTTPException(404, str(error)) from error

    @app.get("/v1/services/{name}/logs", response_model=models.Log, dependencies=known, tags=["desk"])
    def logs(name: str, lines: Annotated[int, Query(ge=1, le=1000)] = 100) -> Any:
        """The end of a process's log."""
        return {"service": name, "lines": tail(log_of(name), lines)}

    @app.get("/v1/services/{name}/logs/follow", dependencies=known, tags=["desk"])
    def follow(name: str, lines: Annotated[int, Query(ge=0, le=1000)] = 20) -> StreamingResponse:
        """Server-sent events: the last lines, then each as it is written, until the client leaves."""
        return StreamingResponse(events(log_of(name), lines), media_type="text/event-stream")


async def events(path: Path, lines: int) -> AsyncIterator[str]:
    """A log's lines as events; a comment now and then, so that a client that left is noticed."""
    # Where it goes on is known before the first is sent: what is written meanwhile comes once.
    offset, rest, quiet_s = path.stat().st_size, b"", 0.0
    for line in tail(path, lines, offset) if lines else []:
        yield f"data: {line}\n\n"
    while True:
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return
        if size < offset:
            # It was put aside, and begun anew.
            offset, rest = 0, b""
        if size > offset:
            with path.open("rb") as file:
                file.seek(offset)
                found = file.read(2**20)
            offset += len(found)
            *whole, rest = (rest + found).split(b"\n")
            for one in whole:
                yield f"data: {one.decode('utf-8', 'replace').rstrip().replace(chr(13), ' ')}\n\n"
            quiet_s = 0.0
            continue
        await asyncio.sleep(FOLLOW_S)
        quiet_s += FOLLOW_S
        if quiet_s >= KEEP_ALIVE_S:
            quiet_s = 0.0
            yield ": quiet\n\n"


async def over(operations: Operations, name: str, wait_s: float) -> Operation | None:
    """An operation when it is over, or as it is after so long; it takes no thread meanwhile."""
    deadline = time.monotonic() + wait_s
    while (found := operations.get(name)) is not None and found.state == "running":
        if time.monotonic() >= deadline:
            break
        await asyncio.sleep(LOOK_S)
    return found


async def begun(
    desk: Desk, kind: str, subject: str, steps: Sequence[Step], asked: models.Asked, wait_s: float
) -> Any:
    """An operation that was started now, and is waited for where that was asked. Raises HTTPException."""
    try:
        made = desk.operations.start(kind, subject, steps, asked.reason, asked.by)
    except InTheWay as error:
        raise HTTPException(409, str(error)) from error
    return answer(await over(desk.operations, made.id, wait_s) or made)


def add_actions(app: FastAPI, desk: Desk, known: Sequence[Any]) -> None:
    """What changes something; each is an operation."""

    @app.post(
        "/v1/services/{name}/restart", response_model=models.OperationAnswer, status_code=202, dependencies=known,
        tags=["desk"],
    )  # fmt: skip
    async def restart(name: str, asked: models.Asked, wait_s: WaitOption = 0.0) -> Any:
        """End a process and start it again; done when it answers."""
        words = ["stack", "restart", "--reason", asked.reason, "--json", "--", known_service(desk, name)]
        return await begun(desk, "restart", name, [Step(words)], asked, wait_s)

    @app.post(
        "/v1/models/{name}/release", response_model=models.OperationAnswer, status_code=202, dependencies=known,
        tags=["models"],
    )  # fmt: skip
    async def release(name: models.ModelName, asked: models.AskedRelease, wait_s: WaitOption = 0.0) -> Any:
        """Ask the doctor, then probe a version and serve it; where the doctor says no, nothing is released.

        The first result is the doctor's verdict with its findings, the second what was released.
        """
        steps = [
            verdict(),
            Step(["export", "release", "--reason", asked.on_record, "--json", "--", name, str(asked.version)]),
        ]
        return await begun(desk, "release", f"{name} {asked.version}", steps, asked, wait_s)

    @app.post(
        "/v1/models/{name}/rollback", response_model=models.OperationAnswer, status_code=202, dependencies=known,
        tags=["models"],
    )  # fmt: skip
    async def rollback(name: models.ModelName, asked: models.AskedRollback, wait_s: WaitOption = 0.0) -> Any:
        """Serve an earlier version again. Going back is never refused by the doctor: he is asked, and told."""
        to = [] if asked.to is None else ["--to", str(asked.to)]
        steps = [
            Step(verdict().words, (0, 1, 3)),
            Step(["export", "rollback", *to, "--reason", asked.on_record, "--json", "--", name]),
        ]
        return await begun(desk, "rollback", name, steps, asked, wait_s)

    @app.post(
        "/v1/loadtests", response_model=models.OperationAnswer, status_code=202, dependencies=known,
        tags=["load tests"],
    )  # fmt: skip
    async def load(asked: models.AskedLoad, wait_s: WaitOption = 0.0) -> Any:
        """A load test against the desk that runs here. Its exit code: 0 held, 1 missed, 2 proves nothing."""
        if not asked.confirm:
            raise HTTPException(409, "its ticks are decided and recorded by this desk: send `confirm: true`")
        words = ["loadtest", asked.kind, "--speed", asked.speed, "--duration", asked.duration, "--json"]
        return await begun(desk, "loadtest", f"{asked.kind} {asked.speed}", [Step(words, (0, 1, 2))], asked, wait_s)


def verdict() -> Step:
    """Whether builds, models and GPU fit; what cannot be told without a GPU stops nothing."""
    return Step(["export", "doctor", "--json"], (0, 3))


def add_operations(app: FastAPI, desk: Desk, known: Sequence[Any]) -> None:
    """What was asked for, and what became of it."""

    @app.get("/v1/models", dependencies=known, tags=["models"])
    def served() -> Any:
        """Every model, its versions, and which are served."""
        try:
            return desk.operations.ask(["export", "list", "--json"])
        except ServiceUnavailable as error:
            raise HTTPException(503, str(error)) from error

    @app.get("/v1/operations", response_model=list[models.OperationAnswer], dependencies=known, tags=["operations"])
    def listed(limit: Annotated[int, Query(ge=1, le=200)] = 50) -> Any:
        """The newest first."""
        return [answer(one) for one in desk.operations.listed()[:limit]]

    @app.get(
        "/v1/operations/{name}", response_model=models.OperationAnswer, dependencies=known, tags=["operations"]
    )
    async def one(name: str, wait_s: WaitOption = 0.0) -> Any:
        """One of them."""
        found = await over(desk.operations, name, wait_s)
        if found is None:
            raise HTTPException(404, f"there is no operation {name[:64]!r}")
        return answer(found)

    @app.delete("/v1/operations/{name}", status_code=204, dependencies=known, tags=["operations"])
    def cancel(name: str) -> Response:
        """End one that runs, as Ctrl-C does."""
        if desk.operations.get(name) is None:
            raise HTTPException(404, f"there is no operation {name[:64]!r}")
        desk.operations.cancel(name)
        return Response(status_code=204)


def answer(operation: Operation | None) -> Any:
    """As it is sent."""
    return msgspec.to_builtins(operation)

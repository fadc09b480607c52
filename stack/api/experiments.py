"""The routes of experiments: the same commands as a person's, so that both are refused and recorded alike."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException

from stack.api import models
from stack.api.operations import Operations, Step
from trading.errors import ServiceUnavailable
from trading.files import replace_file

#: Begins an operation: kind, subject, steps, what was asked, and how long its end is waited for.
Begin = Callable[[str, str, Sequence[Step], models.Asked, float], Awaitable[Any]]
FOLDER = "experiment-requests"
#: So long a definition that was sent stays there.
KEPT_S = 86_400.0
OURS = re.compile(r"[0-9a-f]{32}\.yaml")
OPTIONS: dict[str, Any] = {"response_model": models.OperationAnswer, "status_code": 202, "tags": ["experiments"]}


def words_of(act: str, name: str, asked: models.Asked, *more: str) -> list[Step]:
    """The one command."""
    return [Step(["experiment", act, "--reason", asked.on_record, *more, "--json", "--", name])]


def add_experiments(app: FastAPI, home: Path, operations: Operations, begin: Begin, known: Sequence[Any]) -> None:
    """Experiments of the desk: looked at, and commanded.

    Args:
        app: gets the routes.
        home: of the stack; a definition that is sent is kept there for a day.
        operations: what is done.
        begin: begins one.
        known: what every route wants of a request.
    """

    def asked_of(*words: str) -> Any:
        try:
            return operations.ask(["experiment", *words])
        except ServiceUnavailable as error:
            unknown = any(words in str(error) for words in ("is no experiment", "nothing is kept of"))
            raise HTTPException(404 if unknown else 503, str(error)) from error

    @app.get("/v1/experiments", dependencies=known, tags=["experiments"])
    def listed() -> Any:
        """Every experiment of the desk, and how it stands."""
        return asked_of("list", "--json")

    @app.get("/v1/experiments/{name}", dependencies=known, tags=["experiments"])
    def status(name: models.ExperimentName) -> Any:
        """How one stands, and who did what."""
        return asked_of("status", "--json", "--", name)

    @app.get("/v1/experiments/{name}/report", dependencies=known, tags=["experiments"])
    def report(name: models.ExperimentName) -> Any:
        """What it has come to: verdicts, intervals, guardrails, and what its challengers did on the desk."""
        return asked_of("report", "--json", "--", name)

    add_commands(app, home, begin, known)


def forget_old(folder: Path) -> None:
    """What was sent longer ago than any operation waits is read: the log has it. What is not ours stays."""
    for file in folder.glob("*.yaml"):
        # Tidying keeps nobody from asking.
        with suppress(OSError):
            if OURS.fullmatch(file.name) and file.is_file() and time.time() - file.stat().st_mtime > KEPT_S:
                file.unlink()


def add_commands(app: FastAPI, home: Path, begin: Begin, known: Sequence[Any]) -> None:
    """What changes something; each is an operation."""

    @app.post("/v1/experiments", dependencies=known, **OPTIONS)
    async def create(asked: models.AskedExperiment, wait_s: models.WaitOption = 0.0) -> Any:
        """Make one known, whole or not at all; its models are looked at first."""
        folder = home / FOLDER
        # Named by what it holds: nothing of it is a path, and what is sent again is there once.
        file = folder / f"{hashlib.sha256(asked.definition.encode()).hexdigest()[:32]}.yaml"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            forget_old(folder)
            replace_file(file, asked.definition.encode(), mode=0o600)
        except OSError as error:
            raise HTTPException(503, f"{folder} cannot be written: {error.strerror}") from error
        steps = [Step(["experiment", "create", "--reason", asked.on_record, "--json", "--", str(file)])]
        return await begin("experiment", "create", steps, asked, wait_s)

    @app.post("/v1/experiments/{name}/start", dependencies=known, **OPTIONS)
    async def start(name: models.ExperimentName, asked: models.Asked, wait_s: models.WaitOption = 0.0) -> Any:
        """Begin its shadow; no challenger has a share before it is ramped."""
        return await begin("experiment", f"start {name}", words_of("start", name, asked), asked, wait_s)

    @app.post("/v1/experiments/{name}/ramp", dependencies=known, **OPTIONS)
    async def ramp(name: models.ExperimentName, asked: models.AskedRamp, wait_s: models.WaitOption = 0.0) -> Any:
        """Give a canary's challengers a share of the units, or the next of its steps."""
        to = [] if asked.to is None else ["--to", repr(asked.to)]
        return await begin("experiment", f"ramp {name}", words_of("ramp", name, asked, *to), asked, wait_s)

    @app.post("/v1/experiments/{name}/stop", dependencies=known, **OPTIONS)
    async def stop(name: models.ExperimentName, asked: models.Asked, wait_s: models.WaitOption = 0.0) -> Any:
        """End it: the champion decides every tick at once. No other operation keeps it waiting."""
        return await begin(f"experiment-stop {name}", f"stop {name}", words_of("stop", name, asked), asked, wait_s)

    @app.post("/v1/experiments/{name}/promote", dependencies=known, **OPTIONS)
    async def promote(
        name: models.ExperimentName, asked: models.AskedPromotion, wait_s: models.WaitOption = 0.0
    ) -> Any:
        """Release its challenger through the exporters' gates; one that is not known to be better is refused."""
        more = (["--arm", asked.arm] if asked.arm else []) + (
            ["--override", asked.override] if asked.override else []
        )
        return await begin("experiment", f"promote {name}", words_of("promote", name, asked, *more), asked, wait_s)

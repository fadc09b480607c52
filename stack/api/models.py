"""What is sent and answered, as OpenAPI shows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def sendable(text: str) -> str:
    """A text that can be written. Raises ValueError for half of a pair of surrogates, which is none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it is no text: it holds half of a surrogate pair") from None
    return text


#: Of a model, as the repository takes it; never the beginning of an option.
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}$")]
Reason = Annotated[
    str, AfterValidator(sendable), Field(pattern=r"^[^\x00-\x1f\x7f]{1,500}$", description="why, for the record")
]
By = Annotated[
    str,
    AfterValidator(sendable),
    Field(pattern=r"^[^\x00-\x1f\x7f]{0,100}$", description="who asks, as he calls himself"),
]


ExperimentName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_\-]{0,39}$")]
WaitOption = Annotated[float, Query(ge=0, le=300, description="seconds to wait for its end")]


class Asked(BaseModel):
    """Something to do, with why and by whom."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason
    by: By = ""

    @property
    def on_record(self) -> str:
        """Why, and by whom: whoever has the token may call himself anything, and that it came this way is kept."""
        return f"{self.reason} (over HTTP{f', by {self.by}' if self.by else ''})"


class AskedRelease(Asked):
    """A version to release."""

    version: Annotated[int, Field(ge=1)]


class AskedRollback(Asked):
    """A version to go back to; without one the version that was served before."""

    to: Annotated[int | None, Field(ge=1)] = None


class AskedLoad(Asked):
    """A load on this desk: its ticks are decided, recorded, and traded with the paper broker."""

    kind: Literal["kafka", "triton"] = "kafka"
    speed: Annotated[str, Field(pattern=r"^[A-Za-z0-9:/.,]{1,60}$")] = "250/s"
    duration: Annotated[str, Field(pattern=r"^[0-9.]{1,8}[smh]?$")] = "30s"
    confirm: Annotated[bool, Field(description="true: these ticks go to the desk that runs here")] = False


class AskedExperiment(Asked):
    """An experiment's definition, as its file has it."""

    definition: Annotated[
        str, AfterValidator(sendable), Field(min_length=1, max_length=100_000, description="YAML")
    ]


class AskedRamp(Asked):
    """A share of the units; without one the next of the experiment's steps."""

    to: Annotated[float | None, Field(ge=0.0, le=1.0, allow_inf_nan=False)] = None


class AskedPromotion(Asked):
    """A challenger to promote; who answers for what speaks against it, if anything does and somebody does."""

    arm: Annotated[str, Field(pattern=r"^([a-z][a-z0-9_\-]{0,39})?$")] = ""
    override: Annotated[str, Field(pattern=r"^([^\x00-\x1f\x7f\-][^\x00-\x1f\x7f]{0,99})?$")] = ""


class Service(BaseModel):
    """A row of the health matrix."""

    name: str
    state: str
    version: str
    endpoint: str
    memory_mb: float
    memory_limit_mb: int
    cpu_percent: float
    uptime_s: float
    restarts: int
    last_exit: str
    detail: str
    held: str
    degraded: list[str]
    hour: float | None
    day: float | None


class Status(BaseModel):
    """The health matrix; `age_s` tells how old it is."""

    ready: bool
    alive: bool
    profile: str
    age_s: float
    problems: list[str]
    services: list[Service]


class Log(BaseModel):
    """The end of a log."""

    service: str
    lines: list[str]


class OperationAnswer(BaseModel):
    """Something that was asked for, and what became of it."""

    id: str
    kind: str
    subject: str
    reason: str
    by: str
    state: Literal["running", "done", "failed", "cancelled"]
    began_s: float
    ended_s: float
    exit_code: int | None
    results: list[Any]
    log: list[str]


class Finding(BaseModel):
    """A check of the doctor's."""

    check: str
    verdict: Literal["fits", "cannot tell", "does not fit"]
    seen: str
    way_out: str


class Alert(BaseModel):
    """What may wake a person."""

    name: str
    severity: Literal["critical", "warning"]
    summary: str


class Page(BaseModel):
    """A page of the runbook, as Markdown."""

    page: str


class Problem(BaseModel):
    """A refusal."""

    message: str

"""What is asked and answered, as OpenAPI tells it. Times are seconds since 1970."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

#: Words that go on record: no control characters, and something is said.
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
RunId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")]
ScheduleName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")]


#: Of an attempt.
Fence = Annotated[int, Path(ge=1, le=2**62)]


class Given(BaseModel):
    """What is sent: nothing that is not known."""

    model_config = ConfigDict(extra="forbid")


class AskedCommand(Given):
    """Why something is wanted, and by whom, as far as whoever has the token says."""

    reason: Reason
    by: Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""


class AskedRun(AskedCommand):
    """A run that is wanted."""

    kind: str = "cycle"
    spec: dict[str, Any] = {}
    priority: int = Field(default=10, ge=-100, le=100)
    key: Annotated[str, StringConstraints(max_length=200)] = Field(
        default="",
        description="the same key is submitted once, ever; a repeated request is answered with the run of before",
    )


class AskedSchedule(AskedCommand):
    """A schedule that is wanted."""

    cron: str
    tz: str = "UTC"
    kind: str = "cycle"
    spec: dict[str, Any] = {}
    priority: int = Field(default=0, ge=-100, le=100)
    missed: Literal["latest", "all", "none"] = "latest"


class Problem(BaseModel):
    """Why something is not answered."""

    error: dict[str, str]


class RequestAnswer(BaseModel):
    """What was wanted."""

    kind: str
    spec: dict[str, Any]
    priority: int
    trigger: str
    trigger_key: str
    reason: str
    by: str


class RunAnswer(BaseModel):
    """A run as it stands."""

    id: str
    request: RequestAnswer
    state: str
    step: str
    verdict: str
    why: str
    fence: int
    lease_until_s: float | None
    not_before_s: float
    divisor: int
    cancelled: str
    outputs: dict[str, Any]
    progress: dict[str, Any]
    submitted_s: float
    ended_s: float | None


class AttemptAnswer(BaseModel):
    """One try at a step."""

    run: str
    fence: int
    step: str
    pool: str
    reference: str
    memory_mb: int
    gpu_mb: int
    started_s: float
    ended_s: float | None
    end: str | None
    exit_code: int | None
    peak_mb: int | None
    why: str


class RunDetail(BaseModel):
    """A run, the attempts at its steps, and why it stands where it does, in sentences."""

    run: RunAnswer
    attempts: list[AttemptAnswer]
    explanation: list[str]


class RunPage(BaseModel):
    """Runs, the newest first; `next` is the path of the page behind, where there may be one."""

    runs: list[RunAnswer]
    next: str | None = None


class LineAnswer(BaseModel):
    """Something that happened."""

    at_s: float
    run: str
    what: str
    by: str
    detail: str


class LogAnswer(BaseModel):
    """The end of what a step printed."""

    run: str
    fence: int
    lines: list[str]


class ScheduleAnswer(BaseModel):
    """A schedule as it stands."""

    schedule: dict[str, Any]
    paused: bool
    after_s: float
    next_s: list[float]


class PoolAnswer(BaseModel):
    """What steps may take, and what was promised."""

    name: str
    memory_mb: int
    gpu_mb: int
    places: int
    taken_memory_mb: int
    taken_gpu_mb: int
    taken_places: int


class StatusAnswer(BaseModel):
    """How the orchestrator is."""

    problem: str
    paused: str
    unseen: list[str]
    pool: PoolAnswer
    open: list[RunAnswer]


class Health(BaseModel):
    """Whether it looks at its runs."""

    ok: bool
    problem: str

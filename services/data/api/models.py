"""What is answered, field by field: the OpenAPI document and the columns of CSV and Arrow come from here."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Answered(BaseModel):
    """Fields that are not named are not answered."""

    model_config = ConfigDict(extra="forbid")


class ProblemDetail(Answered):
    """What went wrong."""

    code: str = Field(description="a word for programs", examples=["not_found"])
    message: str = Field(description="a sentence for people: what, and the way out")


class Problem(Answered):
    """Every answer that is not what was asked for."""

    error: ProblemDetail


class SymbolItem(Answered):
    """A symbol whose ticks were read."""

    symbol: str
    partition: int
    ticks: int = Field(description="read so far")
    last_offset: int | None = Field(description="of its newest tick; null where none came since the service began")
    state_time_ns: int = Field(description="newest event time, ns since 1970 UTC")
    warm: bool = Field(description="whether its features are known")


class SymbolList(Answered):
    """All symbols, by name."""

    items: list[SymbolItem]
    next: str | None = Field(default=None, description="cursor of what follows")


class TickItem(Answered):
    """A tick as it was read; a field that its source did not state is null."""

    partition: int
    offset: int
    symbol: str
    event_time_ns: int
    state_time_ns: int = Field(description="the symbol's newest event time so far: that of its features")
    appended_ns: int = Field(description="when the broker took it")
    bid: float | None
    ask: float | None
    bid_size: float | None
    ask_size: float | None
    last: float | None
    last_size: float | None
    warm: bool


class TickList(Answered):
    """Ticks of one symbol in the order of its log."""

    items: list[TickItem]
    next: str | None = Field(description="cursor of what follows")


class FeatureAnswer(Answered):
    """Features of a symbol as of a time or an offset, from the gateway's own kernel."""

    symbol: str
    partition: int
    at_offset: int | None = Field(description="as asked")
    at_time_ns: int | None = Field(description="as asked")
    offset: int | None = Field(description="of the tick that they are of; never newer than asked")
    event_time_ns: int | None = Field(description="of that tick")
    state_time_ns: int | None = Field(description="the newest event time that they know; never newer than asked")
    age_ns: int | None = Field(description="how much older that is than what was asked, or than the clock")
    feature_version: int
    settled: bool = Field(description="whether no later tick can change this answer")
    complete: bool = Field(
        description="whether every tick of its partition was read; where some were gone, a gateway may know more"
    )
    features: dict[str, float] | None = Field(description="float32 values by name, in the kernel's order")
    reason: Literal["no_tick_yet", "warming_up"] | None = Field(description="why there are none")
    message: str | None


class FeatureQuestion(BaseModel):
    """One of a batch; without `at` and `offset`: now."""

    model_config = ConfigDict(extra="forbid")
    symbol: str = Field(min_length=1, max_length=64)
    at: str | int | None = Field(default=None, description="ISO 8601, or ns since 1970 UTC")
    offset: int | None = Field(default=None, ge=0, le=2**62)
    partition: int | None = Field(default=None, ge=0, le=2**31 - 1)


class FeatureBatch(BaseModel):
    """At most 1,000 questions."""

    model_config = ConfigDict(extra="forbid")
    questions: list[FeatureQuestion] = Field(min_length=1, max_length=1000)


class FeatureItem(Answered):
    """One of a batch: an answer, or why there is none."""

    answer: FeatureAnswer | None
    error: ProblemDetail | None


class FeatureList(Answered):
    """In the order of the questions."""

    items: list[FeatureItem]


class DecisionItem(Answered):
    """A decision as it can be searched; the whole is at /v1/decisions/{id}."""

    log: int = Field(description="number of its log on the trail")
    record_offset: int = Field(description="in that log")
    decision_id: str
    symbol: str
    event_time: datetime
    action: str
    reason: str
    quantity: float
    reference_price: float | None
    mid_price: float | None
    position_before: float
    position_after: float
    target_position: float | None
    model_name: str
    model_version: str
    variant: str
    trading_state: str
    limits_version: str
    outcome: str | None = Field(description="of risk; null where no order was wanted")
    broken_rules: list[str] | None
    decided_at: datetime
    latency_us: float = Field(description="from sending the tick to the decision")
    trace_id: str
    experiment: str | None = Field(description="NAME@OFFSET of the command that divided its units; null: none")
    assigned: str | None = Field(description="arm that its unit was given to; null outside of experiments")
    fallback: str | None = Field(description="why the champion decided a challenger's unit; null: it did not")


class DecisionList(Answered):
    """In the order of their logs."""

    items: list[DecisionItem]
    next: str | None = Field(description="cursor of what follows")


class DecisionEvidence(Answered):
    """A decision with everything that is known of it."""

    decision_id: str
    topic: str
    partition: int
    record_offset: int
    decision: dict[str, Any] = Field(description="as published")
    proof: dict[str, Any] | None = Field(
        description="for `ultrathink forensics check-proof`; null where not signed yet"
    )
    proof_problem: str | None
    replay: dict[str, Any] | None = Field(
        description="verdict of the last time it was made again; null: ask with POST"
    )


class PositionItem(Answered):
    """Where the newest decision of a symbol left it; a book a partition."""

    symbol: str
    partition: int
    position: float = Field(description="units, signed; when all orders that work have filled")
    mid_price: float | None
    value: float | None = Field(description="position x mid, in the symbol's quote currency")
    decision_id: str
    event_time: datetime
    trading_state: str


class PositionList(Answered):
    """By symbol."""

    items: list[PositionItem]
    next: str | None = None


class ProfitItem(Answered):
    """Profit of a symbol over a span, marked to the mid at both ends, in its quote currency."""

    symbol: str
    since: datetime = Field(description="first decision with a mid")
    until: datetime = Field(description="last decision with a mid")
    opening_position: float
    closing_position: float
    orders: int
    traded: float = Field(description="sum of abs(quantity) x price")
    fees: float
    from_fills: bool = Field(description="whether by the broker's fills; else orders count as filled at once")
    profit: float


class ProfitList(Answered):
    """By symbol."""

    items: list[ProfitItem]
    next: str | None = None


class RegimeItem(Answered):
    """What the model said of a symbol's regime, last."""

    symbol: str
    partition: int
    regime: str | None = Field(description="the most probable; null where no model answered")
    probabilities: dict[str, float]
    decision_id: str
    event_time: datetime
    model_name: str
    model_version: str


class RegimeList(Answered):
    """By symbol."""

    items: list[RegimeItem]
    next: str | None = None


class ReleaseItem(Answered):
    """The last word of the release journal on a version."""

    model: str
    version: int
    action: str
    step: str
    at: datetime
    by: str
    reason: str


class DecidingItem(Answered):
    """A version that the newest decisions were made by."""

    model: str
    version: str
    variant: str
    symbols: int


class ModelList(Answered):
    """Versions that were released, and those that decide."""

    items: list[ReleaseItem]
    deciding: list[DecidingItem]


class LimitsAnswer(Answered):
    """The limits that were set last; all null where nobody has set any."""

    offset: int | None = Field(description="in the control topic")
    by: str | None
    reason: str | None
    at_ns: int | None
    limits: dict[str, Any] | None = Field(description="null where this version does not understand them")
    problem: str | None


class WhatIf(BaseModel):
    """What would have been another: limits, a model, or both."""

    model_config = ConfigDict(extra="forbid")
    decision_id: str = Field(min_length=1, max_length=300)
    limits: str | None = Field(
        default=None, max_length=500_000, description="YAML, as `risk limits apply` takes it"
    )
    model: str | None = Field(default=None, max_length=300, description="NAME/VERSION that Triton serves")


class Simulate(BaseModel):
    """Limits to try on the recorded decisions."""

    model_config = ConfigDict(extra="forbid")
    limits: str = Field(min_length=1, max_length=500_000, description="YAML, as `risk limits apply` takes it")
    most_ticks: int = Field(default=100_000, ge=1, le=10_000_000)


class JobAnswer(Answered):
    """Work that goes on in the background."""

    job: str
    kind: str
    state: Literal["waiting", "running", "done", "failed"]
    done: int = Field(description="of `total`, where that is known")
    total: int
    result: dict[str, Any] | None
    problem: str | None


class PartHealth(Answered):
    """One thing that is needed."""

    name: str
    ok: bool
    problem: str | None
    needed_for: str


class Health(Answered):
    """What answers, and what cannot be answered now."""

    ok: bool
    feature_version: int
    positions: dict[str, int] = Field(description="partition -> offset after the last tick that is read")
    parts: list[PartHealth]

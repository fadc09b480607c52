"""Routes of decisions and what follows from them; PostgreSQL must answer."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from services.data.api import models
from services.data.api.asking import from_cursor, span_of, text_of, to_cursor, to_moment
from services.data.api.formats import answer, listing
from services.data.api.guard import need
from services.data.api.jobs import Jobs
from services.data.api.market import TimeQuery
from services.data.errors import NotFound
from services.data.ports import Evidence
from services.data.trail.queries import Row, TrailQuestions
from trading.decision.schema import Action, Reason
from trading.errors import ConfigurationError
from trading.risk.verdict import Outcome

MOST_DECISIONS = 5000
#: What changes with every decision is looked up again after a second.
FRESH_S = 1
#: Name of an experiment, or of an arm.
ExperimentQuery = Annotated[str | None, Query(min_length=1, max_length=64)]
SymbolQuery = Annotated[str | None, Query(min_length=1, max_length=64)]
IdPath = Annotated[str, Path(min_length=1, max_length=300, description="topic-partition-offset of the tick")]


def trail_routes(questions: TrailQuestions, evidence: Evidence, jobs: Jobs, most_days: int) -> APIRouter:
    """What the trail can be asked."""
    routes = APIRouter(tags=["decisions"], dependencies=[Depends(need("decisions"))])

    def bounds(since: str | None, until: str | None) -> tuple[int, int]:
        return span_of(since, until, time.time_ns(), most_days)

    @routes.get(
        "/v1/decisions", response_model=models.DecisionList,
        summary="Decisions of a span of event time, in the order of their logs",
    )  # fmt: skip
    def decisions(
        request: Request,
        since: TimeQuery = None,
        until: TimeQuery = None,
        symbol: SymbolQuery = None,
        action: Action | None = None,
        reason: Reason | None = None,
        outcome: Outcome | None = None,
        experiment: ExperimentQuery = None,
        assigned: ExperimentQuery = None,
        limit: Annotated[int, Query(ge=1, le=MOST_DECISIONS)] = 500,
        cursor: Annotated[str | None, Query(max_length=100)] = None,
    ) -> Response:
        told = {
            "symbol": symbol, "action": action, "reason": reason, "outcome": outcome, "experiment": experiment,
            "assigned": assigned,
        }  # fmt: skip
        chosen = {name: text_of(name, value) for name, value in told.items() if value is not None}
        # A cursor holds its span: without one in the question, each page would have its own.
        log, offset, begin, end = from_cursor(cursor, 4) or (-1, -1, *bounds(since, until))
        rows = questions.decisions(to_moment(begin), to_moment(end), (log, offset), limit + 1, chosen)
        items = rows[:limit]
        last = (items[-1]["log"], items[-1]["record_offset"], begin, end) if len(rows) > limit else None
        more = None if last is None else to_cursor(*last)
        return listing(request, models.DecisionItem, items, more, max_age_s=FRESH_S)

    add_evidence(routes, questions, evidence, jobs)
    add_states(routes, questions, bounds)
    return routes


def add_evidence(routes: APIRouter, questions: TrailQuestions, evidence: Evidence, jobs: Jobs) -> None:
    """One decision, with all that is known of it."""

    @routes.get(
        "/v1/decisions/{decision_id:path}/replay", response_model=models.JobAnswer,
        summary="The last time that a decision was made again",
    )  # fmt: skip
    def replayed(decision_id: IdPath) -> Response:
        last = jobs.last(f"replay:{decision_id}")
        if last is None:
            raise NotFound(f"{decision_id} was not made again since this service began: POST here asks for it")
        return answer(last.to_answer())

    @routes.post(
        "/v1/decisions/{decision_id:path}/replay", response_model=models.JobAnswer, status_code=202,
        dependencies=[Depends(need("analyse"))], summary="Make a decision again, in the background",
    )  # fmt: skip
    def replay(decision_id: IdPath) -> Response:
        known(decision_id)
        job = jobs.start("replay", f"replay:{decision_id}", lambda told: evidence.replay(decision_id, told))
        return answer(job.to_answer(), status=202, headers={"Location": f"/v1/jobs/{job.id}"})

    @routes.get(
        "/v1/decisions/{decision_id:path}", response_model=models.DecisionEvidence,
        summary="A decision with its evidence, its proof, and the verdict of its replay",
    )  # fmt: skip
    def decision(decision_id: IdPath) -> Response:
        record = known(decision_id)
        proof, problem = proven(decision_id)
        last = jobs.last(f"replay:{decision_id}")
        return answer(
            {
                "decision_id": decision_id, "topic": record["topic"], "partition": record["partition"],
                "record_offset": record["record_offset"], "decision": msgspec.Raw(record["value"]), "proof": proof,
                "proof_problem": problem, "replay": None if last is None else last.result,
            }
        )  # fmt: skip

    def known(decision_id: str) -> Row:
        record = questions.record(text_of("decision_id", decision_id))
        if record is None:
            raise NotFound(f"{decision_id[:200]} is not on record: ids are TOPIC-PARTITION-OFFSET of the tick")
        return record

    def proven(decision_id: str) -> tuple[dict[str, Any] | None, str | None]:
        try:
            return evidence.proof(decision_id), None
        except ConfigurationError as error:
            # Not signed yet, or not what was signed: the record is answered, and this is said.
            return None, str(error)


def add_states(routes: APIRouter, questions: TrailQuestions, bounds: Any) -> None:
    """What the newest decisions say, and what holds."""

    @routes.get("/v1/positions", response_model=models.PositionList, summary="Where every symbol stands")
    def positions(request: Request, symbol: SymbolQuery = None) -> Response:
        return listing(
            request, models.PositionItem, [to_position(one) for one in newest(symbol)], max_age_s=FRESH_S
        )

    @routes.get("/v1/regimes", response_model=models.RegimeList, summary="What the model said of regimes last")
    def regimes(request: Request, symbol: SymbolQuery = None) -> Response:
        return listing(request, models.RegimeItem, [to_regime(one) for one in newest(symbol)], max_age_s=FRESH_S)

    @routes.get("/v1/pnl", response_model=models.ProfitList, summary="Profit of a span, marked to market")
    def pnl(
        request: Request, since: TimeQuery = None, until: TimeQuery = None, symbol: SymbolQuery = None
    ) -> Response:
        chosen = None if symbol is None else text_of("symbol", symbol)
        return listing(request, models.ProfitItem, profit(since, until, chosen), max_age_s=FRESH_S)

    @routes.get("/v1/models", response_model=models.ModelList, summary="Versions released, and those that decide")
    def released(request: Request) -> Response:
        versions, deciding = questions.models()
        return listing(request, models.ReleaseItem, versions, max_age_s=FRESH_S, extra={"deciding": deciding})

    @routes.get("/v1/limits", response_model=models.LimitsAnswer, summary="The limits that were set last")
    def limits() -> Response:
        nothing = dict.fromkeys(models.LimitsAnswer.model_fields)
        return answer(questions.limits() or nothing, max_age_s=FRESH_S)

    def profit(since: str | None, until: str | None, symbol: str | None) -> list[Row]:
        begin, end = bounds(since, until)
        return questions.profit(to_moment(begin), to_moment(end), symbol)

    def newest(symbol: str | None) -> list[Row]:
        return questions.newest(None if symbol is None else text_of("symbol", symbol))


def to_position(row: Row) -> dict[str, Any]:
    """Of a symbol's newest decision."""
    mid = row["mid_price"]
    return {
        "symbol": row["symbol"], "partition": row["partition"], "position": row["position_after"], "mid_price": mid,
        "value": None if mid is None else row["position_after"] * mid, "decision_id": row["decision_id"],
        "event_time": row["event_time"], "trading_state": row["trading_state"],
    }  # fmt: skip


def to_regime(row: Row) -> dict[str, Any]:
    """Of a symbol's newest decision."""
    told = row["regime_probabilities"]
    return {
        "symbol": row["symbol"], "partition": row["partition"],
        "regime": max(told, key=lambda one: told[one]) if told else None,
        "probabilities": told, "decision_id": row["decision_id"], "event_time": row["event_time"],
        "model_name": row["model_name"], "model_version": row["model_version"],
    }  # fmt: skip

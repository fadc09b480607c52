"""Routes of symbols, ticks and features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from services.data.api import models
from services.data.api.asking import from_cursor, text_of, to_cursor, to_ns
from services.data.api.formats import answer, listing
from services.data.api.guard import need
from services.data.archive.history import Span
from services.data.errors import Refused, Unprocessable
from services.data.market.questions import Answer, MarketQuestions, Question
from services.data.rows import LivedRows
from trading.arrays import FloatArray
from trading.features.definitions import FEATURE_VERSION, FEATURES
from trading.history.archive import QUOTED

#: An answer that no later tick can change.
SETTLED_S = 3600
MOST_TICKS = 10_000
SymbolPath = Annotated[str, Query(min_length=1, max_length=64)]
PartitionQuery = Annotated[
    int | None, Query(ge=0, le=2**31 - 1, description="needed where a symbol's ticks lie in several")
]
OffsetQuery = Annotated[int | None, Query(ge=0, le=2**62)]
TimeQuery = Annotated[str | None, Query(max_length=50, description="ISO 8601, or ns since 1970 UTC")]


def market_routes(questions: MarketQuestions) -> APIRouter:
    """What a market's follower can be asked."""
    routes = APIRouter(tags=["market"], dependencies=[Depends(need("market"))])

    @routes.get("/v1/symbols", response_model=models.SymbolList, summary="Symbols whose ticks were read")
    def symbols(request: Request) -> Response:
        items = [
            {
                "symbol": one.symbol, "partition": one.partition, "ticks": one.ticks,
                "last_offset": one.last_offset if one.exact else None, "state_time_ns": one.state_time_ns,
                "warm": one.warm,
            }
            for one in questions.symbols()
        ]  # fmt: skip
        return listing(request, models.SymbolItem, items)

    @routes.get("/v1/ticks", response_model=models.TickList, summary="Ticks of a symbol, in the order of its log")
    def ticks(
        request: Request,
        symbol: Annotated[str, Query(min_length=1, max_length=64)],
        since: TimeQuery = None,
        until: TimeQuery = None,
        partition: PartitionQuery = None,
        limit: Annotated[int, Query(ge=1, le=MOST_TICKS)] = 1000,
        cursor: Annotated[str | None, Query(max_length=100)] = None,
    ) -> Response:
        begin, end = to_ns("since", since), to_ns("until", until)
        if begin is not None and end is not None and begin >= end:
            raise Unprocessable(f"since={since} does not lie before until={until}")
        place = questions.partition(text_of("symbol", symbol), partition)
        after = from_cursor(cursor, 2)
        if after is not None and after[0] != place:
            raise Unprocessable(f"cursor={cursor} is of another partition")
        span = Span(
            place, symbol, 0 if after is None else after[1] + 1,
            first_ns=-(2**62) if begin is None else begin, last_ns=2**62 if end is None else end - 1,
        )  # fmt: skip
        rows = questions.ticks(span, limit + 1)
        items = [tick_item(place, rows, k) for k in range(min(len(rows), limit))]
        more = to_cursor(place, items[-1]["offset"]) if len(rows) > limit else None
        # A page that is followed by another stays as it is.
        return listing(request, models.TickItem, items, more, max_age_s=SETTLED_S if more else 0)

    add_features(routes, questions)
    return routes


def add_features(routes: APIRouter, questions: MarketQuestions) -> None:
    """Of one symbol, and of many at once."""

    @routes.get(
        "/v1/features/{symbol:path}", response_model=models.FeatureAnswer,
        summary="Features of a symbol now, or as of a time or an offset",
    )  # fmt: skip
    async def features(
        symbol: str, at: TimeQuery = None, offset: OffsetQuery = None, partition: PartitionQuery = None
    ) -> Response:
        question = to_question(symbol, at, offset, partition)
        found = questions.from_memory(question)
        if found is None:
            found = await run_in_threadpool(questions.from_archive, question)
        return answer(to_features(found), max_age_s=SETTLED_S if found.settled else 0)

    @routes.post("/v1/features", response_model=models.FeatureList, summary="At most 1,000 such questions at once")
    def feature_batch(asked: models.FeatureBatch) -> Response:
        return answer({"items": feature_items(questions, asked.questions)})


def to_question(symbol: str, at: str | int | None, offset: int | None, partition: int | None) -> Question:
    """Raises Unprocessable."""
    if at is not None and offset is not None:
        raise Unprocessable(f"at={at} and offset={offset} are two questions: give one of them")
    return Question(text_of("symbol", symbol), offset, to_ns("at", at), partition)


def feature_items(questions: MarketQuestions, asked: Sequence[models.FeatureQuestion]) -> list[dict[str, Any]]:
    """In order; what is wrong with one keeps nobody from the others' answers."""
    found: list[Answer | Refused | Question] = []
    for one in asked:
        try:
            question = to_question(one.symbol, one.at, one.offset, one.partition)
            found.append(questions.from_memory(question) or question)
        except Refused as error:
            found.append(error)
    earlier = questions.from_archive_all([one for one in found if isinstance(one, Question)])
    answers = [next(earlier) if isinstance(one, Question) else one for one in found]
    return [
        {"answer": None, "error": {"code": one.code, "message": str(one)}}
        if isinstance(one, Refused)
        else {"answer": to_features(one), "error": None}
        for one in answers
    ]


def to_features(found: Answer) -> dict[str, Any]:
    """As it is answered: never a zero for what is not known."""
    row, question = found.row, found.question
    known = None if row is None or found.reason else dict(zip(FEATURES, row.features[0].tolist(), strict=True))
    return {
        "symbol": question.symbol, "partition": question.partition, "at_offset": question.offset,
        "at_time_ns": question.time_ns,
        "offset": None if row is None else int(row.offsets[0]),
        "event_time_ns": None if row is None else int(row.event_time_ns[0]),
        "state_time_ns": None if row is None else int(row.state_time_ns[0]),
        "age_ns": found.age_ns, "feature_version": FEATURE_VERSION, "settled": found.settled,
        "complete": found.complete,
        "features": known, "reason": found.reason, "message": found.message,
    }  # fmt: skip


def tick_item(partition: int, rows: LivedRows, k: int) -> dict[str, Any]:
    """One of a list."""
    return {
        "partition": partition, "offset": int(rows.offsets[k]), "symbol": rows.symbols[k],
        "event_time_ns": int(rows.event_time_ns[k]), "state_time_ns": int(rows.state_time_ns[k]),
        "appended_ns": int(rows.appended_ns[k]), **quotes_of(rows.quotes[k]), "warm": bool(rows.warm[k]),
    }  # fmt: skip


def quotes_of(row: FloatArray) -> dict[str, float | None]:
    """What was not stated is null."""
    return {name: None if value != value else value for name, value in zip(QUOTED, row.tolist(), strict=True)}  # noqa: PLR0124 - NaN

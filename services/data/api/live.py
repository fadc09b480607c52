"""Live tails: what comes from now on, as NDJSON or server-sent events, until whoever listens goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from services.data.api.asking import from_cursor, text_of, to_cursor
from services.data.api.formats import EVENTS, NDJSON, negotiated
from services.data.api.guard import STILL, need
from services.data.api.market import PartitionQuery, tick_item
from services.data.api.trail import SymbolQuery
from services.data.archive.history import Span
from services.data.errors import TooMany, Unprocessable
from services.data.market.questions import MarketQuestions
from services.data.trail.queries import TrailQuestions
from trading.errors import UltraThinkError

#: Between two looks for what is new.
LOOK_S = 0.1
#: Without anything new a line is sent so often: proxies end what is silent.
QUIET_S = 10.0
AT_ONCE = 1000
#: What a look gives: items and the cursor after each; and None ends the tail.
Look = Callable[[], list[tuple[str, dict[str, Any]]]]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=8000)]


class Tails:
    """At most so many at once."""

    def __init__(self, most: int) -> None:
        self._most = self.left = most
        self.closing = False

    def stream(self, request: Request, look: Look) -> StreamingResponse:
        """One tail. Raises TooMany."""
        kind = negotiated(request.headers.get("accept", ""), (NDJSON, EVENTS))
        if self.left <= 0:
            raise TooMany(f"{self._most} tails are followed already", retry_after_s=5)
        self.left -= 1
        still = request.scope.get(STILL, lambda: False)
        return TailResponse(self._pieces(look, kind, still), kind, self._end)

    def _end(self) -> None:
        self.left += 1

    async def _pieces(self, look: Look, kind: str, still: Callable[[], bool]) -> AsyncIterator[bytes]:
        quiet = 0.0
        # At once, so that whoever listens knows that he does.
        yield b": begins\n\n" if kind == EVENTS else b""
        while not self.closing:
            if not still():
                yield ended(kind, "unauthorized", "the token was taken back")
                return
            try:
                found = await run_in_threadpool(look)
            except UltraThinkError as error:
                yield ended(kind, "unavailable", str(error))
                return
            if found:
                quiet = 0.0
                yield b"".join(piece(kind, cursor, item) for cursor, item in found)
                continue
            await asyncio.sleep(LOOK_S)
            quiet += LOOK_S
            if quiet >= QUIET_S:
                quiet = 0.0
                yield b": waits\n\n" if kind == EVENTS else b"\n"


class TailResponse(StreamingResponse):
    """A stream whose place is given back however it ends, also where it never began."""

    def __init__(self, pieces: AsyncIterator[bytes], kind: str, end: Callable[[], None]) -> None:
        super().__init__(pieces, media_type=kind, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._end = end

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._end()


def piece(kind: str, cursor: str, item: dict[str, Any]) -> bytes:
    """One item."""
    content = msgspec.json.encode(item)
    return b"id: " + cursor.encode() + b"\ndata: " + content + b"\n\n" if kind == EVENTS else content + b"\n"


def ended(kind: str, code: str, why: str) -> bytes:
    """The last word, where a server that is needed does not answer, or whoever listens may no more."""
    content = msgspec.json.encode({"error": {"code": code, "message": why}})
    return b"event: problem\ndata: " + content + b"\n\n" if kind == EVENTS else content + b"\n"


class TickTail:
    """What comes of a symbol."""

    def __init__(self, questions: MarketQuestions, symbol: str, partition: int, after: int) -> None:
        self._questions, self._symbol, self._partition, self._after = questions, symbol, partition, after

    def look(self) -> list[tuple[str, dict[str, Any]]]:
        """Ticks after the last."""
        rows = self._questions.ticks(Span(self._partition, self._symbol, self._after + 1), AT_ONCE)
        items = [tick_item(self._partition, rows, k) for k in range(len(rows))]
        if items:
            self._after = items[-1]["offset"]
        return [(to_cursor(self._partition, one["offset"]), one) for one in items]


class DecisionTail:
    """What is put on record of decisions."""

    def __init__(self, questions: TrailQuestions, chosen: dict[str, str], places: dict[int, int] | None) -> None:
        """After these places; None is after what is on record at the first look."""
        self._questions, self._chosen, self._places = questions, chosen, places

    def look(self) -> list[tuple[str, dict[str, Any]]]:
        """Decisions of every log after the last."""
        now = self._questions.places()
        if self._places is None:
            # What was on record before is no news.
            self._places = dict(now)
        found, places = [], self._places
        for log, last in now.items():
            if last <= places.get(log, -1):
                continue
            rows = self._questions.following((log, places.get(log, -1)), AT_ONCE, self._chosen)
            for row in rows:
                places[log] = row["record_offset"]
                found.append((to_cursor(*(number for place in sorted(places.items()) for number in place)), row))
            if len(rows) < AT_ONCE:
                # More may have come between the two questions than the first of them told.
                places[log] = max(last, places.get(log, -1))
        return found


def to_places(cursor: str | None) -> dict[int, int] | None:
    """Log -> offset, of a cursor that was given out. Raises Unprocessable."""
    if cursor is None:
        return None
    numbers = from_cursor(cursor, None, "Last-Event-ID")
    if len(numbers) % 2:
        raise Unprocessable("Last-Event-ID was not given out here: leave it out to begin with what comes")
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


def live_routes(market: MarketQuestions, trail: TrailQuestions, tails: Tails) -> APIRouter:
    """Both tails; neither path is taken for a symbol or an id."""
    ticks_need, decisions_need = [Depends(need("market"))], [Depends(need("decisions"))]
    routes = APIRouter(tags=["live"])
    told: dict[int | str, dict[str, Any]] = {200: {"content": {NDJSON: {}, EVENTS: {}}}}

    @routes.get(
        "/v1/ticks/tail",
        responses=told,
        response_class=StreamingResponse,
        dependencies=ticks_need,
        summary="Ticks of a symbol as they come",
    )
    def ticks(
        request: Request,
        symbol: Annotated[str, Query(min_length=1, max_length=64)],
        partition: PartitionQuery = None,
        last_event_id: LastEventId = None,
    ) -> StreamingResponse:
        place = market.partition(text_of("symbol", symbol), partition)
        known = from_cursor(last_event_id, 2, "Last-Event-ID")
        if known is not None and known[0] != place:
            raise Unprocessable("Last-Event-ID is of another partition")
        after = market.positions().get(place, 0) - 1 if known is None else known[1]
        return tails.stream(request, TickTail(market, symbol, place, after).look)

    @routes.get(
        "/v1/decisions/tail", responses=told, response_class=StreamingResponse, dependencies=decisions_need,
        summary="Decisions as they are put on record",
    )  # fmt: skip
    def decisions(
        request: Request, symbol: SymbolQuery = None, last_event_id: LastEventId = None
    ) -> StreamingResponse:
        chosen = {} if symbol is None else {"symbol": text_of("symbol", symbol)}
        return tails.stream(request, DecisionTail(trail, chosen, to_places(last_event_id)).look)

    return routes

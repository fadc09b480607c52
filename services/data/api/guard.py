"""What stands before every request: who asks, how often, how much at once; and answers that are known already."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import msgspec
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.requests import Request

from services.data.api.cache import AnswerCache, CachedAnswer, key_of
from services.data.api.formats import JSON
from services.data.api.sent import AsgiScope, Receive, accepted, int_or_0, joined, sorted_query, whole_body
from services.data.api.tokens import Scope, Token, Tokens, allow
from services.data.errors import NotFound, Refused, TooLarge, TooMany, Unauthorized, Unprocessable

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

#: Without a token: what says whether the service lives, and what it can be asked.
OPEN = frozenset({"/v1/health", "/metrics", "/openapi.json"})
#: What the beginning of a path needs; the longest that fits counts.
NEEDED: tuple[tuple[str, Scope], ...] = (
    ("/v1/symbols", "market"),
    ("/v1/ticks", "market"),
    ("/v1/features", "market"),
    ("/v1/what-if", "analyse"),
    ("/v1/limits/simulate", "analyse"),
    ("/v1/jobs", "analyse"),
    ("/v1", "decisions"),
)
#: A tail goes on for hours; it is counted where it is served.
TAILS = ("/v1/ticks/tail", "/v1/decisions/tail")
#: What a request's scope holds for the routes: the token's holder, and whether he still is one.
HOLDER, STILL = "ultrathink.holder", "ultrathink.still"
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Observer:
    """Told of every request; does nothing by itself."""

    def answered(self, route: str, status: int, cached: str, seconds: float) -> None:
        """How long it took; `cached` is hit or miss."""


class Guard:
    """An ASGI application around another one."""

    def __init__(
        self, app: App, tokens: Tokens, cache: AnswerCache, observer: Observer, source: Callable[[], str], *,
        requests_per_s: int, most_at_once: int, most_body: int,
    ) -> None:  # fmt: skip
        """Prepare.

        Args:
            app: what answers.
            tokens: who may ask.
            cache: of answers.
            observer: told of all.
            source: what answers are of: the log, the formulas, the trail; "" while that is not known.
            requests_per_s: of one token.
            most_at_once: that are in work, and a quarter of it of those that ask the trail.
            most_body: bytes of a request.
        """
        self._app, self._tokens, self._cache, self._observer, self._source = app, tokens, cache, observer, source
        self._limiter, self._rate = FixedWindowRateLimiter(MemoryStorage()), RateLimitItemPerSecond(requests_per_s)
        self._most_body = most_body
        #: Questions to the trail have room of their own: where PostgreSQL hangs, they keep no other from an answer.
        self._rooms = {"market": Room(most_at_once), "trail": Room(max(1, most_at_once // 4))}

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        seen = _Seen(send)
        layer = "miss"
        try:
            layer = await self._serve(scope, receive, seen)
        except Refused as error:
            await refuse(seen, error)
        route = getattr(scope.get("route"), "path", "") or known_route(scope["path"])
        self._observer.answered(route, seen.status, layer, time.perf_counter() - began)

    async def _serve(self, scope: AsgiScope, receive: Receive, seen: _Seen) -> str:
        path = scope["path"]
        if CONTROL.search(path):
            raise NotFound("nothing is answered here: a path has no control characters")
        headers = joined(scope)
        if path in OPEN or not path.startswith("/v1/"):
            await self._app(scope, receive, seen)
            return "miss"
        authorization = headers.get("authorization", "")
        holder = self._tokens.holder(authorization)
        needed = self._admit(holder, path)
        scope[HOLDER] = holder
        if path in TAILS:
            scope[STILL] = lambda: self._tokens.is_known(authorization)
            await self._app(scope, receive, seen)
            return "miss"
        key = self._key(scope, path, headers)
        if key and (kept := await self._cache.get(key)) is not None:
            await replay(seen, kept)
            return "hit"
        if int_or_0(headers.get("content-length", "0")) > self._most_body:
            raise TooLarge(f"a request has at most {self._most_body:,} bytes")
        # Before it takes a place: who is slow to ask keeps nobody else from asking.
        body = await whole_body(receive, self._most_body)
        with self._rooms["market" if needed == "market" else "trail"].taken():
            await self._app(scope, body, seen.keeping() if key else seen)
        if key and (kept := seen.kept()) is not None:
            await self._cache.put(key, kept)
        return "miss"

    def _key(self, scope: AsgiScope, path: str, headers: dict[str, str]) -> bytes:
        """Of the answer; b"" where none may be kept."""
        source = self._source()
        if scope["method"] != "GET" or "no-cache" in headers.get("cache-control", "") or not source:
            return b""
        return key_of(source, path, sorted_query(scope["query_string"]), accepted(headers.get("accept", "")))

    def _admit(self, holder: Token, path: str) -> Scope:
        if not self._limiter.hit(self._rate, holder.name):
            raise TooMany(f"token {holder.name} may ask {self._rate.amount} times a second", retry_after_s=1)
        needed = next(scope for begin, scope in NEEDED if path == begin or path.startswith(begin + "/"))
        allow(holder, needed)
        return needed


class Room:
    """So many at once."""

    def __init__(self, most: int) -> None:
        self._most = self.left = most

    @contextmanager
    def taken(self) -> Iterator[None]:
        """One place. Raises TooMany where none is left."""
        if self.left <= 0:
            raise TooMany(f"{self._most} such requests are in work: come again", retry_after_s=1)
        self.left -= 1
        try:
            yield
        finally:
            self.left += 1


def need(scope: Scope) -> Callable[[Request], None]:
    """A dependency of routes: whoever comes to one has its scope, by whatever path."""

    def check(request: Request) -> None:
        holder = request.scope.get(HOLDER)
        if holder is None:
            raise Unauthorized("send `Authorization: Bearer TOKEN`")
        allow(holder, scope)
        known = {one.alias for one in request.scope["route"].dependant.query_params}
        unknown = sorted(set(request.query_params) - known)
        if unknown:
            # Passed over, it would be another question than was meant.
            told = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise Unprocessable(f"{unknown[0][:50]} is no parameter of this question: {told}")

    return check


class _Seen:
    """Passes on what is sent, and remembers it where it may be kept."""

    def __init__(self, send: Send) -> None:
        self._send, self.status = send, 0
        self._keep, self._body, self._whole = False, b"", False
        self._headers: list[tuple[str, str]] = []
        self.began = False

    def keeping(self) -> _Seen:
        """From here on."""
        self._keep = True
        return self

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        """As `send`."""
        if message["type"] == "http.response.start":
            self.status, self.began = message["status"], True
            self._headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in message.get("headers", [])]
        elif self._keep and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            self._whole = not message.get("more_body", False)
        await self._send(message)

    def kept(self) -> CachedAnswer | None:
        """What may be sent again, and how long; None where it may not."""
        told = dict(self._headers)
        _, _, seconds = told.get("cache-control", "").partition("max-age=")
        if self.status != 200 or not self._whole or not seconds.isdigit():
            return None
        headers = [(k, v) for k, v in self._headers if k in {"cache-control", "link", "vary"}]
        return CachedAnswer(
            self.status, told.get("content-type", JSON), headers, self._body, time.time() + int(seconds)
        )


async def replay(send: Send, kept: CachedAnswer) -> None:
    """Send what was kept."""
    headers = [*kept.headers, ("content-type", kept.media_type), ("content-length", str(len(kept.body)))]
    await send({
        "type": "http.response.start", "status": kept.status,
        "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers],
    })  # fmt: skip
    await send({"type": "http.response.body", "body": kept.body})


async def refuse(send: _Seen, error: Refused) -> None:
    """Say why, unless something was said already."""
    if send.began:
        raise error
    body = problem(error.code, str(error))
    headers = [
        (b"content-type", JSON.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if error.retry_after_s:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def problem(code: str, message: str) -> bytes:
    """The body of every refusal."""
    return msgspec.json.encode({"error": {"code": code, "message": message}})


def known_route(path: str) -> str:
    """What a request is counted under: the beginning of its path, of those that are known."""
    return next((begin for begin, _ in NEEDED if path.startswith(begin + "/") or path == begin), "other")

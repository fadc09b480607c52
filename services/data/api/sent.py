"""What was sent, read so that no two ways to write it are taken for different things, or different ones for one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from operator import itemgetter
from typing import Any
from urllib.parse import parse_qsl, urlencode

from services.data.api.formats import LISTED, negotiated
from services.data.errors import Refused, TooLarge, TooSlow

AsgiScope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
#: Who asks has so long to send what he asks.
BODY_S = 10.0


async def whole_body(receive: Receive, most: int) -> Receive:
    """A body that was read before it is looked at, no further than it may be long. Raises TooLarge."""
    body, more, until = b"", True, time.monotonic() + BODY_S
    while more:
        try:
            message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
        except TimeoutError:
            raise TooSlow(f"a request is sent within {BODY_S:.0f} s") from None
        if message["type"] != "http.request":
            break
        body, more = body + message.get("body", b""), message.get("more_body", False)
        if len(body) > most:
            raise TooLarge(f"a request has at most {most:,} bytes")
    waiting: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> MutableMapping[str, Any]:
        return waiting.pop() if waiting else await receive()

    return read


def sorted_query(query: bytes) -> str:
    """Every parameter, in one order; those of one name as they came, for the last of them counts."""
    return urlencode(sorted(parse_qsl(query.decode("latin-1"), keep_blank_values=True), key=itemgetter(0)))


def joined(scope: AsgiScope) -> dict[str, str]:
    """Headers by name, several of one as one (RFC 9110, 5.3): for us and for whoever answers alike."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, told = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {told}" if key in found else told
    scope["headers"] = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in found.items()]
    return found


def accepted(accept: str) -> str:
    """The format that a list would be answered in: one key for all ways to ask for it."""
    try:
        return negotiated(accept, LISTED)
    except Refused:
        return accept


def int_or_0(text: str) -> int:
    """A number; 0 for what is none, the greatest for one that is too long to be read."""
    if not (text.isascii() and text.isdigit()):
        return 0
    return int(text) if len(text) <= 18 else 10**18

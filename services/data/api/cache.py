"""Answers that cannot change for a while: in this process, and in Redis for those that come after it."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct, msgpack
from msgspec.structs import replace

from trading.encoding import Records
from trading.errors import BadRecord, ServiceUnavailable

#: An answer that is longer is not kept.
MOST_BYTES = 262_144
#: In Redis no longer than this: the desk's latches lie there too, and must always find room.
REMOTE_S = 60
#: After a failure Redis is left alone for so long.
REST_S = 1.0
#: Of an answer beside its body, in bytes: its key, headers, and place.
OVERHEAD = 1024
PREFIX = b"data:"


class CachedAnswer(Struct, frozen=True):
    """An answer as it is sent; `until_s` is wall time."""

    status: int
    media_type: str
    headers: list[tuple[str, str]]
    body: bytes
    until_s: float


_answers: Records[CachedAnswer] = Records(CachedAnswer, packed=True)
_encode = msgpack.Encoder().encode


class Remote(Protocol):
    """Redis as it is needed; may raise ServiceUnavailable."""

    async def get(self, key: bytes) -> bytes | None:
        """What is kept there."""

    async def set(self, key: bytes, value: bytes, seconds: int) -> None:
        """Keep it for so long."""


def size_of(answer: CachedAnswer) -> int:
    """In memory, with all that is around a body."""
    return len(answer.body) + OVERHEAD


def key_of(*parts: str) -> bytes:
    """Of everything that an answer depends on."""
    # A length before each: no two lists of parts read alike.
    text = b"".join(f"{len(part)}:{part}".encode("utf-8", "surrogateescape") for part in parts)
    return PREFIX + hashlib.sha256(text).digest()


class AnswerCache:
    """Two layers. Where Redis does not answer it is as if it were empty.

    Attributes:
        told: called with "memory", "redis" or "none" for every look.
    """

    def __init__(
        self, memory_bytes: int, remote: Remote | None, remote_bytes: int, told: Callable[[str], None],
        now_s: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Empty.

        Args:
            memory_bytes: kept in this process.
            remote: Redis; None for none.
            remote_bytes: put there a minute, at most.
            told: see the class.
            now_s: wall clock.
        """
        self._memory_bytes, self._remote, self._remote_bytes = memory_bytes, remote, remote_bytes
        self._told, self._now_s = told, now_s
        self._kept: OrderedDict[bytes, CachedAnswer] = OrderedDict()
        self._bytes = 0
        self._rests_until = self._window = 0.0
        self._sent = 0

    async def get(self, key: bytes) -> CachedAnswer | None:
        """What is kept, if it still holds."""
        found = self._kept.get(key)
        if found is not None:
            if found.until_s > self._now_s():
                self._kept.move_to_end(key)
                self._told("memory")
                return found
            self._drop(key)
        found = await self._from_remote(key)
        self._told("none" if found is None else "redis")
        return found

    async def put(self, key: bytes, answer: CachedAnswer) -> None:
        """Keep it, if it is not too long."""
        if len(answer.body) > MOST_BYTES:
            return
        self._keep(key, answer)
        now = self._now_s()
        if self._remote is None or now < self._rests_until:
            return
        content = _encode(answer)
        if now - self._window >= REMOTE_S:
            self._window, self._sent = now, 0
        if self._sent + len(content) > self._remote_bytes:
            return
        self._sent += len(content)
        try:
            await self._remote.set(key, content, max(1, min(REMOTE_S, int(answer.until_s - now))))
        except ServiceUnavailable:
            self._rests_until = now + REST_S

    def _keep(self, key: bytes, answer: CachedAnswer) -> None:
        self._drop(key)
        self._kept[key] = answer
        self._bytes += size_of(answer)
        while self._bytes > self._memory_bytes and self._kept:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._bytes -= size_of(gone)

    async def _from_remote(self, key: bytes) -> CachedAnswer | None:
        now = self._now_s()
        if self._remote is None or now < self._rests_until:
            return None
        try:
            content = await self._remote.get(key)
            found = None if content is None else _answers.read(content)
        except ServiceUnavailable:
            self._rests_until = now + REST_S
            return None
        except BadRecord:
            # Of another version, or not ours.
            return None
        if found is None or found.until_s <= now:
            return None
        # No longer than it could be kept there: whose it was is not known for ever.
        kept = replace(found, until_s=min(found.until_s, now + REMOTE_S))
        self._keep(key, kept)
        return kept

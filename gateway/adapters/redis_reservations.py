"""The desk's common limit on gross exposure, shared by books that decide without asking one another.

Each book reserves in Redis what it may grow to; one script, so that no two reservations can both fit
where only one does. Deciding compares with what is reserved, and never waits: a thread renews, and asks
for more when little is left. Without an answer for two seconds a book may only shrink.

What a book holds, as far as it was told, is counted for good; what is reserved beyond that expires, so
that a gateway that is gone keeps nobody else from trading for ever. That takes much longer than another
gateway needs to take a partition over and to tell what its book holds: only then could what was bought
since the last renewal go uncounted.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from msgspec import Struct

from connectors.redis import RedisError, open_client
from gateway.workers import Worker

log = structlog.get_logger()
KEY = "ultrathink:desk"
TTL_S = 600.0
#: For so long after a renewal a book may still grow into what is reserved.
VALID_S = 2.0
RENEW_S = 0.25
#: Of the limit: what a book reserves beyond what it holds.
STEP_SHARE = 0.05

#: KEYS: what each book holds, what it has reserved, until when (ms). ARGV: book, held, wanted, limit, ttl in ms.
#: Returns what is reserved now: what was wanted, or as much of it as the others leave.
RESERVE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local others = 0
local holds, reserved, until_ms = KEYS[1], KEYS[2], KEYS[3]
local books = {}
for _, key in ipairs({holds, reserved}) do
  for _, name in ipairs(redis.call('HKEYS', key)) do books[name] = true end
end
for name, _ in pairs(books) do
  if name ~= ARGV[1] then
    local counted = tonumber(redis.call('HGET', holds, name) or '0')
    if tonumber(redis.call('HGET', until_ms, name) or '0') > now then
      counted = math.max(counted, tonumber(redis.call('HGET', reserved, name) or '0'))
    end
    others = others + counted
  end
end
local granted = math.max(0, math.min(tonumber(ARGV[3]), tonumber(ARGV[4]) - others))
redis.call('HSET', holds, ARGV[1], ARGV[2])
redis.call('HSET', reserved, ARGV[1], string.format('%.17g', granted))
redis.call('HSET', until_ms, ARGV[1], now + tonumber(ARGV[5]))
return string.format('%.17g', granted)
"""


class Reserved(Struct):
    """A book's part.

    Attributes:
        gross: exposure when it was last asked for.
        reserved: what Redis has promised.
        told: what deciding was last told, and may be using; never given back before it was told less.
        until_s: monotonic time; afterwards it is not known whether the promise still holds.
    """

    gross: float = math.nan
    reserved: float = 0.0
    told: float = 0.0
    until_s: float = 0.0


class RedisReservations:
    """Implements Allowance."""

    def __init__(
        self, url: str, desk: str, group: str, limit: Callable[[], float | None], ttl_s: float = TTL_S
    ) -> None:
        """Start the renewing thread.

        Args:
            url: of Redis.
            desk: account whose limit it is.
            group: of gateways; names the books with their partition.
            limit: of the desk, in money; None while there is none.
            ttl_s: how long unused room stays reserved.
        """
        self._client = open_client(url, 0.5)
        self._script = self._client.register_script(RESERVE)
        self._keys = [f"{KEY}:{desk}:{part}" for part in ("holds", "reserved", "until")]
        self._group, self._limit, self._ttl_s = group, limit, ttl_s
        self._books: dict[int, Reserved] = {}
        self._lock, self._wake, self._closing = threading.Lock(), threading.Event(), threading.Event()
        self._failing = False
        self.worker = Worker("reservations", self._renew_all)
        self.worker.start()

    def quota(self, partition: int, gross: float) -> float:
        """What the book may grow to; NaN when that is not known."""
        limit = self._limit()
        with self._lock:
            book = self._books.get(partition)
            if book is None:
                book = self._books[partition] = Reserved()
                self._wake.set()
            if math.isnan(gross):
                return math.nan
            book.gross = gross
            if limit is None:
                return math.nan
            step = limit * STEP_SHARE
            # What is far more than can be used soon goes back: deciding is told less first.
            book.told = min(book.reserved, gross + 2.0 * step)
            if book.reserved - gross < 0.5 * step:
                self._wake.set()
            return book.told if time.monotonic() < book.until_s else math.nan

    def renew(self) -> None:
        """Once for every book. Raises RedisError."""
        limit = self._limit()
        if limit is None:
            return
        for partition, book in list(self._books.items()):
            with self._lock:
                if math.isnan(book.gross):
                    continue  # what it holds was told by whoever knew it last
                gross, wanted = book.gross, max(book.told, book.gross + limit * STEP_SHARE)
                # Before Redis gives it to others, nobody here may be told of it any more.
                book.reserved = min(book.reserved, wanted)
            asked_s = time.monotonic()
            args: list[Any] = [f"{self._group}:{partition}", repr(gross), repr(wanted), repr(limit)]
            granted = float(self._script(self._keys, [*args, int(self._ttl_s * 1000)]))
            with self._lock:
                book.reserved = granted
                book.until_s = asked_s + min(VALID_S, self._ttl_s / 2.0)

    def forget(self, partition: int) -> None:
        """Another gateway decides it; what it holds stays counted."""
        with self._lock:
            self._books.pop(partition, None)

    def close(self) -> None:
        """Stop renewing."""
        self._closing.set()
        self._wake.set()
        self.worker.join(2.0)
        with contextlib.suppress(RedisError):
            self._client.close()

    def _renew_all(self) -> None:
        while not self._closing.is_set():
            try:
                self.renew()
            except RedisError as error:
                if not self._failing:
                    log.warning("nothing can be reserved: books may only shrink", reason=str(error)[:200])
                self._failing = True
            else:
                self._failing = False
            self._wake.wait(RENEW_S)
            self._wake.clear()
            # Somebody who asks for more and more must not keep Redis busy.
            self._closing.wait(0.005)

"""The latched trading state in Redis: halted and resumed by a human, watched by every gateway."""

from __future__ import annotations

import contextlib
import threading
import time

from connectors.redis import Redis, RedisError, connect, translated
from gateway.workers import Worker
from trading.encoding import Records, encode, safe_text
from trading.errors import BadRecord
from trading.risk.trading_state import SEVERITY, LatchedState, TradingState, latched_after

KEY = "ultrathink:trading_state"
POLL_S = 0.02
#: Unread for so long, the state counts as unknown, and unknown is not ACTIVE.
UNKNOWN_AFTER_S = 2.0
#: Of a text, so many characters are kept.
MOST_REASON = 1_000
_latched = Records(LatchedState)


def read(client: Redis) -> LatchedState:
    """The stored state. HALTED where it is missing or unreadable: only a human's word is ACTIVE."""
    stored = client.get(KEY)
    if stored is None:
        why = "no trading state is stored: set one with `ultrathink gateway resume --reason ...`"
        return LatchedState(TradingState.HALTED, why, "gateway")
    try:
        return _latched.read(stored)
    except BadRecord as error:
        return LatchedState(TradingState.HALTED, f"the stored state cannot be read: {error}", "gateway")


def write(client: Redis, state: TradingState, reason: str, by: str) -> LatchedState:
    """Latch a state, unless a more severe one is; only ACTIVE ends that. Raises ServiceUnavailable."""
    latched = LatchedState(state, safe_text(reason)[:MOST_REASON], safe_text(by)[:MOST_REASON], time.time_ns())
    try:
        if client.exists(KEY) and latched_after((before := read(client)).state, state) is not state:
            return before
        client.set(KEY, encode(latched))
    except RedisError as error:
        raise translated(error, "the trading state was not stored") from error
    return latched


class RedisStateStore:
    """Implements StateStore: a thread reads the state fifty times a second."""

    def __init__(self, url: str) -> None:
        self._client = connect(url)
        self._state = read(self._client).state
        self._read_at = time.monotonic()
        self._closing = threading.Event()
        self.worker = Worker("trading-state", self._watch)
        self.worker.start()

    def trading_state(self) -> TradingState:
        """The latest state; at least REDUCING while Redis cannot be read."""
        if self.known():
            return self._state
        return max(self._state, TradingState.REDUCING, key=SEVERITY.__getitem__)

    def known(self) -> bool:
        """Whether Redis has answered lately."""
        return time.monotonic() - self._read_at <= UNKNOWN_AFTER_S

    def close(self) -> None:
        """Stop watching."""
        self._closing.set()

    def _watch(self) -> None:
        while not self._closing.wait(POLL_S):
            with contextlib.suppress(RedisError):
                self._state = read(self._client).state
                self._read_at = time.monotonic()

"""How quick the desk is, by its gateway's own metrics."""

from __future__ import annotations

import math
import time

import httpx

from stack.processes.scrape import Scrape, quantile_ms
from stack.servers.loopback import client

#: The desk's p99 is that of so many seconds.
WINDOW_S = 10.0
ASK_S = 1.0


class GatewayLatency:
    """Implements Desk by a gateway's own metrics."""

    def __init__(self, address: str, window_s: float = WINDOW_S) -> None:
        """`address` is that of its metrics, as http://127.0.0.1:9108/metrics; the last `window_s` count."""
        self._address, self._window_s, self._client = address, window_s, client()
        self._scrapes: list[Scrape] = []

    def p99_ms(self) -> float | None:
        """See Desk."""
        try:
            found = self._client.get(self._address, timeout=ASK_S).raise_for_status().text
            self._scrapes.append(Scrape.of(found, {}))
        except httpx.TimeoutException:
            # It is there, and too busy to say how busy it is.
            self._scrapes.clear()
            return math.inf
        except (httpx.HTTPError, ValueError):
            self._scrapes.clear()
            return None
        oldest = time.monotonic() - self._window_s
        while len(self._scrapes) > 2 and self._scrapes[1].at_s <= oldest:
            self._scrapes.pop(0)
        p99 = quantile_ms(self._scrapes[0], self._scrapes[-1], "gateway_tick_seconds", 0.99)
        return p99 if math.isfinite(p99) else None

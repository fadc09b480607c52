"""A simulated market whose ticks keep coming, at a pace and of a kind that can be changed while they do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Planned
from trading.errors import ServiceUnavailable, UltraThinkError
from trading.history.simulate import Market, Regime

NS = 1_000_000_000
ENDS_S = 60.0


class LiveMarket:
    """Its ticks go to a topic.

    Attributes:
        rate_hz: ticks a second of wall time.
        sent: how many so far.
    """

    def __init__(self, bootstrap: str, topic: str, market: Market, rate_hz: float) -> None:
        """Nothing is sent yet. Raises ServiceUnavailable where Kafka does not answer."""
        self._publisher, self._market = TickPublisher(bootstrap, topic), market
        self.rate_hz, self.sent = rate_hz, 0
        self._stopping, self._failed = threading.Event(), ""

    def turn(self, *regimes: Regime) -> None:
        """From the next tick on these take turns; prices and the clock go on."""
        self._market.regimes = regimes

    def check(self) -> None:
        """Raise ServiceUnavailable where ticks come no more."""
        if self._failed:
            raise ServiceUnavailable(f"the market's ticks have ended: {self._failed}")

    @contextmanager
    def open(self) -> Iterator[None]:
        """Ticks come."""
        thread = threading.Thread(target=self._send, name="market", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join(ENDS_S)

    def _send(self) -> None:
        try:
            self._publisher.publish(self._planned(), keep_times=False)
        except UltraThinkError as error:
            self._failed = str(error)

    def _planned(self) -> Iterator[Planned]:
        after_ns = 0.0
        while not self._stopping.is_set():
            after_ns += NS / self.rate_hz
            self.sent += 1
            yield Planned(int(after_ns), self._market.next()[0])

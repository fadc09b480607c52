"""Ticks at a steady rate for as long as somebody wants them, whatever happens to the broker meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

from connectors.kafka.topics import TOPICS
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Planned, Speed, plan
from stack.drill.table import RATES_HZ
from stack.servers.settings import StackSettings
from stack.watching.alerts import TARGET_S
from trading.errors import ServiceUnavailable
from trading.history import open_source

SOURCE = "simulate:regimes?seed={seed}&ticks=100000000&symbols=3"
#: After a broker's end a new producer is made; so long it waits first.
AGAIN_S = 1.0


#: A desk has time to spare while 99 of 100 ticks are decided within half of what an alert allows.
SPARE_S = TARGET_S / 2


def find_rate(late_s: Callable[[], float], change: Callable[[float], None], settle: Callable[[], None]) -> float:
    """The first of `RATES_HZ` that a desk decides with time to spare, else the last: what alarms there is right to.

    Args:
        late_s: within how many seconds 99 of 100 ticks are decided; no number where nobody knows, which is no time
            to spare. The first rate is sent.
        change: sends at another rate.
        settle: waits until that shows.
    """
    rate_hz = RATES_HZ[0]
    for slower_hz in RATES_HZ[1:]:
        if late_s() <= SPARE_S:
            return rate_hz
        rate_hz = slower_hz
        change(rate_hz)
        settle()
    return rate_hz


class SteadyLoad:
    """A thread that sends; `with` ends it."""

    def __init__(self, settings: StackSettings, rate_hz: float, seed: int = 9) -> None:
        """Nothing is sent before `with`."""
        self._bootstrap, self._rate_hz = settings.kafka_bootstrap, rate_hz
        self._records = open_source(SOURCE.format(seed=seed)).records()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End, when what was sent is delivered. Raises ServiceUnavailable where it did not send to the end."""
        had_ended = not self._thread.is_alive()
        self._stopping.set()
        self._thread.join(60.0)
        if kind is None and (had_ended or self._failure is not None or self._thread.is_alive()):
            raise ServiceUnavailable(f"ticks were not sent to the end: {self._failure!r}") from self._failure

    def change(self, rate_hz: float) -> None:
        """Go on at another rate, with the ticks that come next."""
        self._rate_hz = rate_hz

    def _run(self) -> None:
        try:
            self._send_on()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told at the end
            self._failure = error

    def _send_on(self) -> None:
        while not self._stopping.is_set():
            try:
                publisher = TickPublisher(self._bootstrap, TOPICS.ticks, log_level=0)
                publisher.publish(self._until_stopped(), shift_to_now=True, keep_times=False)
            except ServiceUnavailable:
                # The broker was ended on purpose; the ticks go on where they were.
                time.sleep(AGAIN_S)

    def _until_stopped(self) -> Iterator[Planned]:
        rate_hz = self._rate_hz
        for planned in plan(self._records, Speed("constant", rate_hz=rate_hz)):
            if self._stopping.is_set() or self._rate_hz != rate_hz:
                return
            yield planned

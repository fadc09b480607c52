"""Ticks at a steady rate for as long as somebody wants them, whatever happens to the broker meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Self

from connectors.kafka.topics import TOPICS
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Planned, Speed, plan
from stack.servers.settings import StackSettings
from trading.errors import ServiceUnavailable
from trading.history import open_source

SOURCE = "simulate:regimes?seed={seed}&ticks=100000000&symbols=3"
#: After a broker's end a new producer is made; so long it waits first.
AGAIN_S = 1.0


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

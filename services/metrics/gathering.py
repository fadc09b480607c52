"""Looks at each source in a thread of its own, so that one that hangs keeps nobody else from being seen."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from connectors.listening import own_registry

log = structlog.get_logger()
#: What was seen so many looks ago is not shown any more: it would be taken for now.
STALE_LOOKS = 3
#: A server that may be starting with everything else is said to, for so long, and is looked for so often.
STARTS_S, AGAIN_S = 30.0, 1.0


class Source(Protocol):
    """Something to be looked at."""

    name: str

    def look(self) -> Sequence[Metric]:
        """Everything of now. May raise whatever its client raises."""

    def close(self) -> None:
        """Let go of connections."""


class Watched:
    """A source, and what was seen of it last."""

    def __init__(self, source: Source, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is seen yet."""
        self.source, self._every_s, self._clock = source, every_s, clock
        self._seen: Sequence[Metric] = ()
        self._seen_s: float | None = None
        self._began_s = clock()
        self.looks = self.failures = 0
        self._problem = ""

    def look(self) -> None:
        """See what is there now; a failure is logged once, until it changes."""
        self.looks += 1
        try:
            self._seen = self.source.look()
        except Exception as error:  # noqa: BLE001 - whatever a client raises, the next look may find more
            self.failures += 1
            problem = f"{type(error).__name__}: {error}"
            if problem != self._problem:
                log.warning("not seen", source=self.source.name, problem=problem[:300])
            self._problem = problem
            return
        self._problem, self._seen_s = "", self._clock()

    @property
    def is_up(self) -> bool:
        """Whether the last look saw something, and lately."""
        if self._seen_s is None or self._problem:
            return False
        return self._clock() - self._seen_s < STALE_LOOKS * self._every_s + 1.0

    @property
    def may_be_starting(self) -> bool:
        """Whether nothing was ever seen, and it is too early to miss it."""
        return self._seen_s is None and self._clock() - self._began_s < STARTS_S

    def shown(self) -> Sequence[Metric]:
        """What was seen, if that is of now."""
        if self._seen_s is None or self._clock() - self._seen_s >= STALE_LOOKS * self._every_s + 1.0:
            return ()
        return self._seen

    def run(self, stopping: threading.Event) -> None:
        """Thread body."""
        while not stopping.is_set():
            self.look()
            stopping.wait(min(self._every_s, AGAIN_S) if self.may_be_starting else self._every_s)
        with contextlib.suppress(Exception):
            self.source.close()


class Gatherer:
    """All sources; a scrape reads what was seen last, and waits for nobody."""

    def __init__(self, sources: Sequence[Source], every_s: float) -> None:
        """Nothing is looked at yet."""
        self._watched = [Watched(source, every_s) for source in sources]
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.registry = own_registry()
        self.registry.register(self)

    def start(self) -> None:
        """Look from now on."""
        for one in self._watched:
            thread = threading.Thread(target=one.run, args=(self._stopping,), name=one.source.name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Look no more; a source that hangs is left behind."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(2.0)

    def collect(self) -> Iterable[Metric]:
        """What a scrape reads."""
        up = GaugeMetricFamily("metrics_source_up", "1 while a source is seen.", labels=["source"])
        starting = GaugeMetricFamily(
            "metrics_source_starting",
            "1 while a source may not have started yet.",
            labels=["source"],
        )
        looks = CounterMetricFamily("metrics_source_looks", "Looks at a source.", labels=["source"])
        failures = CounterMetricFamily("metrics_source_failures", "Looks that saw nothing.", labels=["source"])
        for one in self._watched:
            name = [one.source.name]
            up.add_metric(name, float(one.is_up))
            starting.add_metric(name, float(one.may_be_starting))
            looks.add_metric(name, one.looks)
            failures.add_metric(name, one.failures)
            yield from one.shown()
        yield from (up, starting, looks, failures)

"""How much of the last hour and day each service was ready, of the time in which the stack was meant to be."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path

from msgspec import Struct

from trading.encoding import Records, encode
from trading.errors import BadRecord
from trading.files import write_atomically

HOUR_S, DAY_S = 3600.0, 86_400.0
#: Between two writings where nothing changed; so much is lost of what was when everything is killed.
WRITE_S = 5.0
#: Of one service that comes and goes all day; the oldest are forgotten.
MOST_SPANS = 2_000
#: Who was ready at two looks that lie further apart was not seen in between: a machine that slept was not up.
SEEN_S = 10.0
#: A clock that is kept right is corrected by less at once.
LEAP_S = 1.0
#: Between two looks lies more.
TOUCH_S = 0.01

Spans = list[tuple[float, float]]


class Record(Struct):
    """One service's last day.

    Attributes:
        wanted: when it was meant to be ready: since it first was, after a start that was asked for.
        ready: when it was.
        counts: whether it is meant to be ready now.
    """

    wanted: Spans = []
    ready: Spans = []
    counts: bool = False


class Kept(Struct):
    """What outlives a supervisor."""

    services: dict[str, Record] = {}


_kept = Records(Kept)


class Availability:
    """Notes who is ready, a few times a second."""

    def __init__(self, home: Path, now_s: float, booted_s: float) -> None:
        """What was noted before counts; of a supervisor that was killed everybody was meant to be up until now.

        Args:
            home: of the stack.
            now_s: wall time, seconds.
            booted_s: seconds since the machine's start, time asleep among them: no step of the clock moves it.
        """
        self._path = home / "run" / "availability.json"
        self._next_s, self._last_s, self._last_booted_s = 0.0, now_s, booted_s
        try:
            self._services = _kept.read(self._path.read_bytes()).services
            for record in self._services.values():
                # Of a version that broke what was one span into thousands.
                record.wanted, record.ready = joined(record.wanted, now_s), joined(record.ready, now_s)
        except (OSError, BadRecord):
            self._services = {}
        #: Since when nobody looked, of each that was meant to be ready.
        self._unseen = {n: r.wanted[-1][1] for n, r in self._services.items() if r.counts and r.wanted}
        for name, since in self._unseen.items():
            extend(self._services[name].wanted, since, now_s)

    def went_on(self, names: Collection[str], now_s: float) -> None:
        """Who was found running as it was left was ready while nobody looked, if it was before."""
        for name in names:
            record, since = self._services.get(name, Record()), self._unseen.get(name)
            if since is not None and record.ready and since - record.ready[-1][1] < SEEN_S:
                extend(record.ready, record.ready[-1][1], now_s)

    def note(self, ready: Mapping[str, bool], held: Collection[str], now_s: float, booted_s: float) -> None:
        """Who is ready now, and since the last call; who is held, or not named, is not meant to be."""
        passed_s = booted_s - self._last_booted_s
        leap_s = now_s - self._last_s - passed_s
        if abs(leap_s) > LEAP_S:
            # The clock was set: what was before is so long ago as it was.
            self._shift(leap_s)
            self._last_s += leap_s
        # The very number that the last span ends with: one computed anew is rounded, and begins another span.
        since, self._last_s, self._last_booted_s = self._last_s, now_s, booted_s
        for name in self._services.keys() - ready.keys():
            self._services[name].counts = False
        for name, is_ready in ready.items():
            record = self._services.setdefault(name, Record())
            record.counts = (record.counts or is_ready) and name not in held
            if record.counts:
                extend(record.wanted, since, now_s)
            if is_ready and passed_s < SEEN_S:
                extend(record.ready, since, now_s)
            for spans in (record.wanted, record.ready):
                forget(spans, now_s - DAY_S)
        if booted_s >= self._next_s:
            self._next_s = booted_s + WRITE_S
            self._write()

    def _shift(self, leap_s: float) -> None:
        for record in self._services.values():
            record.wanted = [(a + leap_s, b + leap_s) for a, b in record.wanted]
            record.ready = [(a + leap_s, b + leap_s) for a, b in record.ready]

    def share(self, name: str, window_s: float, now_s: float) -> float | None:
        """Of the window's time in which it was meant to be ready; None where there was none."""
        record = self._services.get(name, Record())
        wanted = within(record.wanted, now_s - window_s)
        return min(1.0, within(record.ready, now_s - window_s) / wanted) if wanted > 0 else None

    def end(self) -> None:
        """Everything is ended on purpose: what follows does not count."""
        for record in self._services.values():
            record.counts = False
        self._write()

    def _write(self) -> None:
        # A disk that is full must not end the supervisor: it is told elsewhere.
        with contextlib.suppress(OSError):
            write_atomically(self._path, encode(Kept(self._services)).decode())


def extend(spans: Spans, since: float, until: float) -> None:
    """Add a span; one that begins where the last one ends lengthens it."""
    if spans and spans[-1][1] >= since:
        spans[-1] = (spans[-1][0], max(spans[-1][1], until))
    else:
        spans.append((since, until))


def joined(spans: Spans, now_s: float) -> Spans:
    """The same: what touches but for a rounding as one, and nothing later than now, of a clock that ran ahead."""
    found: Spans = []
    for since, until in sorted((since, min(until, now_s)) for since, until in spans):
        if not since < until:
            continue
        touches = bool(found) and since - found[-1][1] < TOUCH_S
        extend(found, found[-1][1] if touches else since, until)
    return found


def forget(spans: Spans, before: float) -> None:
    """Drop what ended earlier, and what is more than is kept."""
    while len(spans) > 1 and (spans[0][1] < before or len(spans) > MOST_SPANS):
        del spans[0]


def within(spans: Spans, since: float) -> float:
    """Seconds of the spans after `since`."""
    return sum(max(0.0, until - max(start, since)) for start, until in spans)

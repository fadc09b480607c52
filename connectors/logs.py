"""Structured logs as JSON lines on stderr: level changeable at run time, floods cut short."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Literal, TextIO, cast

import structlog

Level = Literal["debug", "info", "warning", "error"]
LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
#: Of one event so many lines a window; the next window's first line says how many were left out.
BURST = 10
WINDOW_S = 10.0


class LogLevel:
    """A structlog processor that drops what is below the present level."""

    def __init__(self, level: Level = "info") -> None:
        self.level: str = level

    def set(self, level: str) -> None:
        """Raises ValueError for an unknown level."""
        if level not in LEVELS:
            raise ValueError(f"log level {level!r}: expected one of {', '.join(LEVELS)}")
        self.level = level

    def __call__(self, _: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Pass on or drop."""
        if LEVELS.get(method, 20) < LEVELS[self.level]:
            raise structlog.DropEvent
        return event


class RateLimit:
    """A structlog processor: a server that is gone must not fill the disk through us."""

    def __init__(
        self,
        burst: int = BURST,
        window_s: float = WINDOW_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._burst, self._window_s, self._now_s = burst, window_s, now_s
        self._lock = threading.Lock()
        self._windows: dict[str, tuple[float, int]] = {}

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Pass on or drop; events are told apart by their fixed text."""
        name, now = str(event.get("event")), self._now_s()
        with self._lock:
            began, count = self._windows.get(name, (now, 0))
            if now - began >= self._window_s:
                if count > self._burst:
                    event["left_out"] = count - self._burst
                began, count = now, 0
            self._windows[name] = (began, count + 1)
        if count >= self._burst:
            raise structlog.DropEvent
        return event


class ToStructlog(logging.Handler):
    """Takes librdkafka's lines into our log, where floods are cut short."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        structlog.get_logger().warning("kafka client", said=record.getMessage()[:300])


class Fatal(logging.Handler):
    """Tells what a client of Kafka logs as fatal."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it, if it is."""
        said = record.getMessage()
        if said.startswith("FATAL "):
            self._tell(said)


def kafka_logger(fatal: Callable[[str], None] | None = None) -> logging.Logger:
    """For the `logger` argument of confluent-kafka's clients.

    `fatal` is told what a client cannot go on after: librdkafka does not raise everything that it logs as such.
    """
    logger = logging.getLogger("ultrathink.kafka")
    if not logger.handlers:
        logger.addHandler(ToStructlog())
        logger.propagate = False
    if fatal is None:
        return logger
    # Of this client alone; its lines go on to the other one.
    own = logging.Logger("ultrathink.kafka.client")  # noqa: LOG001 - one a client, which ends with it
    own.parent = logger
    own.addHandler(Fatal(fatal))
    return own


class NeverFails:
    """A stream whose lines are lost where they cannot be written: telling must not stop what is told."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        #: What could not be written, or flushed.
        self.lost = 0

    def write(self, text: str) -> int:
        """Write it, or lose it."""
        try:
            return self._stream.write(text)
        # ValueError: it is closed.
        except (OSError, ValueError):
            self.lost += 1
            return 0

    def flush(self) -> None:
        """Flush, or lose what was held back."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self.lost += 1


def configure(level: Level) -> LogLevel:
    """Set logging up for the process; returns what changes its level."""
    chosen = LogLevel(level)
    structlog.configure(
        processors=[
            chosen,
            RateLimit(),
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.add_log_level,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", NeverFails(sys.stderr))),
    )
    return chosen


if not structlog.is_configured():
    # Of commands, which do not configure it: what they print on stdout is their result.
    structlog.configure(
        processors=[RateLimit(), *structlog.get_config()["processors"]],
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", NeverFails(sys.stderr))),
    )

"""Signals, start, stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from connectors.kafka.identity import act_as
from services.forensics.audit import follow
from services.forensics.bootstrap import build
from services.forensics.ports import Kept
from services.forensics.settings import ForensicsSettings


def run(settings: ForensicsSettings, began: Callable[[str], None], progress: Callable[[int], None]) -> Kept:
    """Store published decisions until SIGTERM or SIGINT; returns how much was new.

    Args:
        settings: of the audit trail.
        began: told in what kind of table they are kept.
        progress: told how many were stored, in every turn.

    Raises:
        ServiceUnavailable: a server does not answer.
    """
    act_as("forensics")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with build(settings) as trail:
        began("TimescaleDB hypertable" if trail.archive.hypertable else "PostgreSQL table")
        return follow(trail.reader, trail.archive, stopping, progress, trail.tracer)

"""Store, then commit: a decision may be read twice, and is stored once by its id."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

BATCH = 500
POLL_S = 0.5


class Reader(Protocol):
    """Where decisions come from."""

    def read(self, count: int, timeout_s: float) -> list[bytes]:
        """What has been published."""

    def commit(self) -> None:
        """What was read need not be read again."""


class Archive(Protocol):
    """Where decisions are kept."""

    def store(self, payloads: list[bytes]) -> int:
        """Keep them; returns how many were new."""


def follow(
    reader: Reader, archive: Archive, stopping: threading.Event, progress: Callable[[int], None] = lambda _: None
) -> int:
    """Store everything that is published until stopped; returns how many were new.

    `progress` is called in every turn, also when nothing came: it shows that the consumer lives.
    """
    stored = 0
    while not stopping.is_set():
        payloads = reader.read(BATCH, POLL_S)
        if payloads:
            stored += archive.store(payloads)
            reader.commit()
        progress(stored)
    return stored

"""What the audit trail needs of the world, as protocols."""

from __future__ import annotations

from typing import Protocol


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

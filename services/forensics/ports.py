"""What the audit trail needs of the world, as protocols."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Reader(Protocol):
    """Where decisions come from."""

    def read(self, count: int, timeout_s: float) -> list[bytes]:
        """What has been published."""

    def commit(self) -> None:
        """What was read need not be read again."""


class Kept(Struct, frozen=True):
    """What became of payloads: how many were new decisions, and how many were none and set aside, both once."""

    new: int = 0
    aside: int = 0

    def __add__(self, other: Kept) -> Kept:
        return Kept(self.new + other.new, self.aside + other.aside)


class Archive(Protocol):
    """Where decisions are kept."""

    def store(self, payloads: list[bytes]) -> Kept:
        """Keep them all. Raises ServiceUnavailable: nothing of them is kept, and the same may be tried again."""

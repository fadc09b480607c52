"""What the data service needs of others, as protocols: proofs and replays are forensics', and wired outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

#: Told how much is done, and of how much; 0 where that is not known.
Progress = Callable[[int, int], None]


class Evidence(Protocol):
    """The trail's word on one decision. Every method may raise ServiceUnavailable and ConfigurationError."""

    def proof(self, decision_id: str) -> dict[str, Any] | None:
        """That the record is one of those that were signed; None where it is not on record."""

    def replay(self, decision_id: str, progress: Progress) -> dict[str, Any]:
        """The decision made again, and what differs, if anything does."""


class Analyses(Protocol):
    """What would have been. Every method may raise ServiceUnavailable and ConfigurationError."""

    def what_if(
        self, decision_id: str, limits: str | None, model: str | None, progress: Progress
    ) -> dict[str, Any]:
        """A decision as recorded, and as it would have been under other limits (YAML) or by NAME/VERSION."""

    def simulate(self, limits: str, most_ticks: int, progress: Progress) -> dict[str, Any]:
        """What other limits (YAML) would have done to the recorded decisions, beside those in force."""

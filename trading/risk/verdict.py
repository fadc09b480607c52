"""What the rules said of an order, as it is published."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Outcome(StrEnum):
    """What risk makes of an intent."""

    ACCEPT = "accept"
    CLIP = "clip"
    DENY = "deny"


class RuleResult(Struct, frozen=True, gc=False):
    """One rule's finding. `headroom` = limit - value in the rule's unit; negative means broken."""

    rule: str
    passed: bool
    value: float | None
    limit: float | None
    headroom: float | None


class Verdict(Struct, frozen=True, gc=False):
    """What risk allows: `quantity` is signed, in units, and 0 when denied."""

    outcome: Outcome
    quantity: float
    results: tuple[RuleResult, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of the rules that the intent broke."""
        return tuple(r.rule for r in self.results if not r.passed)

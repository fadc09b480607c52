"""What a doctor says: one check each, a verdict over all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from trading.errors import ConfigurationError

Fit = Literal["fits", "cannot tell", "does not fit"]
EXIT_CODES: dict[Fit, int] = {"fits": 0, "does not fit": 1, "cannot tell": 3}


class Finding(Struct, frozen=True):
    """One check: what was looked at, the verdict, what was seen, and the way out where it does not fit."""

    check: str
    verdict: Fit
    seen: str
    way_out: str = ""


def verdict(findings: list[Finding]) -> Fit:
    """The worst of all: what does not fit outweighs what cannot be told."""
    found = {f.verdict for f in findings}
    worse: tuple[Fit, ...] = ("does not fit", "cannot tell")
    for worst in worse:
        if worst in found:
            return worst
    return "fits"


def finding(check: str, fits: bool, seen: str, way_out: str) -> Finding:
    """A plain yes or no."""
    return Finding(check, "fits" if fits else "does not fit", seen, "" if fits else way_out)


def tried(check: str, look: Callable[[], str]) -> Finding:
    """Something that raises ConfigurationError, with the way out in its words, where it does not fit."""
    try:
        return Finding(check, "fits", look())
    except ConfigurationError as error:
        return Finding(check, "does not fit", str(error), "see above")

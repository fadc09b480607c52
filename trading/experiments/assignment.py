"""Which arm decides a row: a pure function of an experiment's salt, the symbol and its block of event time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b

from msgspec import Struct

#: Of a digest, so that a place is exact as a float64.
_BITS = 53


class ShareStep(Struct, frozen=True):
    """What share of the units the challengers have from a block on.

    Attributes:
        from_block: its number since 1970.
        share: of the units, of all challengers together, 0 to 1.
        offset: of the command in the control topic: the version of the experiment that decisions name.
    """

    from_block: int
    share: float
    offset: int


class CanaryArms(Struct, frozen=True):
    """How a canary's units are divided; changed by nobody, only replaced.

    Attributes:
        name: of the experiment.
        salt: of it.
        block_ns: event time of a unit.
        challengers: how many.
        symbols: the only ones whose units challengers decide; empty for all.
        steps: in the order of their blocks, which grow.
    """

    name: str
    salt: str
    block_ns: int
    challengers: int
    symbols: frozenset[str]
    steps: tuple[ShareStep, ...]

    def step_at(self, block: int) -> ShareStep | None:
        """What holds in a block; None before the first."""
        place = bisect_right(self.steps, block, key=lambda step: step.from_block)
        return self.steps[place - 1] if place else None

    def has(self, symbol: str) -> bool:
        """Whether units of a symbol are divided at all."""
        return not self.symbols or symbol in self.symbols

    def arm_of(self, symbol: str, block: int) -> tuple[int, int] | None:
        """The arm of a unit (0 for the champion, k for the k-th challenger) and the experiment's version.

        None where the experiment does not hold: before its first step, or for another symbol.
        """
        step = self.step_at(block) if self.has(symbol) else None
        if step is None:
            return None
        return arm_of_place(place_of_unit(self.salt, symbol, block), step.share, self.challengers), step.offset


def place_of_unit(salt: str, symbol: str, block: int) -> float:
    """Where a unit lies in [0, 1): uniform over units, the same whoever asks, and unlike another salt's.

    Args:
        salt: of the experiment.
        symbol: instrument.
        block: number of the block since 1970.
    """
    # The symbol's length keeps ("AB", 1) from being ("A", "B1").
    told = f"{len(symbol)}:{symbol}:{block}".encode()
    digest = blake2b(told, digest_size=8, key=salt.encode()[:64]).digest()
    return (int.from_bytes(digest, "big") >> (64 - _BITS)) / (1 << _BITS)


def arm_of_place(place: float, share: float, challengers: int) -> int:
    """0 for the champion, k for the k-th challenger.

    Each challenger has an equal part of [0, 1), and grows in it from its beginning: a share that grows takes from
    the champion alone, and never moves a unit that a challenger had.
    """
    part = min(int(place * challengers), challengers - 1)
    return part + 1 if place * challengers - part < share else 0


def name_of(experiment: str, offset: int) -> str:
    """How decisions name an experiment as it was from a command on."""
    return f"{experiment}@{offset}"


def experiment_named(told: str) -> str:
    """The experiment that a decision names; "" where it names none."""
    return told.rpartition("@")[0]


def overlap(one: Sequence[str], other: Sequence[str]) -> list[str] | None:
    """Symbols of which two experiments would divide the units; None for none, empty for all."""
    if not one or not other:
        return sorted({*one, *other})
    return sorted({*one} & {*other}) or None

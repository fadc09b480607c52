"""What an experiment is: data."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from trading.encoding import END
from trading.market import Symbol
from trading.spans import parse_span

#: Names end up in records, metrics' labels and files.
NAME, MODEL = r"^[a-z][a-z0-9_-]{0,39}" + END, r"^[A-Za-z][A-Za-z0-9_-]{0,99}" + END
ExperimentName = Annotated[str, Meta(pattern=NAME)]
ModelName = Annotated[str, Meta(pattern=MODEL)]
ModelVersion = Annotated[int, Meta(ge=1, le=999_999_999)]
BasisPoints = Annotated[float, Meta(ge=0.0, lt=1e4)]
Above0 = Annotated[float, Meta(gt=0.0, lt=1e12)]
From0 = Annotated[float, Meta(ge=0.0, lt=1e12)]
#: Of the units: a share is never above all of them.
Share = Annotated[float, Meta(gt=0.0, le=1.0)]
SALT = r"^[A-Za-z0-9._-]{8,64}" + END
#: What the champion's outcomes are counted under.
CHAMPION = "champion"
#: Shares that a canary's challengers are given one after another.
STEPS = (0.05, 0.25, 1.0)


class ServedModel(Struct, frozen=True, forbid_unknown_fields=True):
    """A version in Triton.

    Attributes:
        model: its name there.
        version: of it.
    """

    model: ModelName
    version: ModelVersion

    def __str__(self) -> str:
        return f"{self.model}/{self.version}"


class Challenger(Struct, frozen=True, forbid_unknown_fields=True):
    """A model that is compared with the champion.

    Attributes:
        arm: what its outcomes are counted under.
        model, version: what is asked.
    """

    arm: ExperimentName
    model: ModelName
    version: ModelVersion

    @property
    def served(self) -> ServedModel:
        """What is asked."""
        return ServedModel(self.model, self.version)


class PrimaryMetric(Struct, frozen=True, forbid_unknown_fields=True):
    """What decides.

    Attributes:
        effect: the smallest difference that matters, in the metric's unit, a block.
        metric: net_bps, what all books together earned in a block after costs, in basis points of their capital.
    """

    effect: Above0
    metric: Literal["net_bps"] = "net_bps"


class GuardedMetric(Struct, frozen=True, forbid_unknown_fields=True):
    """What must not become worse, whatever the primary metric says.

    Attributes:
        metric: denial_rate, of the orders that were wanted those that risk denied; error_rate, of the rows those
            without a usable answer; flip_rate, of the rows with a target those whose target changed its sign;
            turnover, money traded in a block over capital; drawdown, in basis points of the capital below the
            highest so far; p99_ms, of a canary's rows on the desk, from polling to deciding.
        tolerance: by how much the challenger's mean a block may be above the champion's, in the metric's unit.
        at_once: by how much that of a single block may be; none is too much where it is not given. Of drawdown,
            which has its past in it, tolerance is this too.
    """

    metric: Literal["denial_rate", "error_rate", "flip_rate", "turnover", "drawdown", "p99_ms"]
    tolerance: From0
    at_once: Above0 | None = None

    @property
    def one_block(self) -> float:
        """By how much a single block's may be; infinite for any."""
        if self.metric == "drawdown":
            return self.tolerance
        return math.inf if self.at_once is None else self.at_once


class AtLeast(Struct, frozen=True, forbid_unknown_fields=True):
    """Before which there is no verdict.

    Attributes:
        blocks: with outcomes.
        span: of event time, as 2d.
    """

    blocks: Annotated[int, Meta(ge=100, le=10_000_000)] = 100
    span: str = "1h"


class TradingCosts(Struct, frozen=True, forbid_unknown_fields=True):
    """What a virtual trade costs beside the spread that stood, in basis points of its notional.

    Attributes:
        fee_bps: paid to broker and exchange.
        slippage_bps: what the price moves between deciding and filling.
    """

    fee_bps: BasisPoints = 0.5
    slippage_bps: BasisPoints = 0.5


class ExperimentDefinition(Struct, frozen=True, forbid_unknown_fields=True):
    """One comparison.

    Attributes:
        version: of this format.
        name: of the experiment.
        champion: what decides on the desk.
        challengers: one or more.
        primary: what decides.
        kind: shadow: challengers decide beside the desk, on books of their own, and move nothing of it; canary:
            they decide a share of its units, too, once they were given one.
        salt: of a canary: which units are whose follows from it; no two experiments may have the same.
        symbols: of a canary: the only ones of which a challenger may decide units; none given are all.
        steps: of a canary: shares of the units that all challengers together are given, one after another.
        block: event time whose outcomes are one number, as 10m; of a canary, that a symbol is one arm's.
        planned_blocks: after which an answer is wanted: intervals are narrowest there.
        alpha: chance that the verdict on any challenger is ever wrong.
        guardrails: what must not become worse.
        at_least: before which there is no verdict.
        costs: of virtual trades.
    """

    version: Literal[1]
    name: ExperimentName
    champion: ServedModel
    challengers: Annotated[tuple[Challenger, ...], Meta(min_length=1, max_length=8)]
    primary: PrimaryMetric
    kind: Literal["shadow", "canary"] = "shadow"
    salt: Annotated[str, Meta(pattern=SALT)] | None = None
    symbols: Annotated[tuple[Symbol, ...], Meta(max_length=1000)] = ()
    steps: Annotated[tuple[Share, ...], Meta(min_length=1, max_length=20)] = STEPS
    block: str = "10m"
    planned_blocks: Annotated[int, Meta(ge=100, le=10_000_000)] = 1000
    alpha: Annotated[float, Meta(ge=0.0001, le=0.2)] = 0.05
    guardrails: tuple[GuardedMetric, ...] = ()
    at_least: AtLeast = AtLeast()
    costs: TradingCosts = TradingCosts()

    @property
    def block_ns(self) -> int:
        """Event time of a block."""
        return parse_span(self.block)

    @property
    def arms(self) -> tuple[str, ...]:
        """The champion's, and each challenger's in its order."""
        return (CHAMPION, *(one.arm for one in self.challengers))

    @property
    def models(self) -> dict[str, ServedModel]:
        """Arm -> what decides it."""
        return {CHAMPION: self.champion, **{one.arm: one.served for one in self.challengers}}


def json_schema() -> dict[str, Any]:
    """Of an experiment's file."""
    return msgspec.json.schema(ExperimentDefinition)

"""What is asked of runs that learn from what the desk lived: checks for drift, updates of the champion, and the
watch over what was promoted.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from trading.errors import ConfigurationError
from trading.experiments.definition import ServedModel, TradingCosts
from trading.spans import parse_span
from trainers.costs import Costs
from trainers.online.bounds import LEAST_BLOCKS, DriftSettings

#: More of them do not fit in what a step is promised.
Ticks = Annotated[int, Meta(ge=5_000, le=2_000_000)]
Blocks = Annotated[int, Meta(ge=100, le=100_000)]
Fall = Annotated[float, Meta(gt=0.0, lt=1.0)]


class GuardRules(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When what was promoted is taken back: where it is known to be worse than the last good one by so much.

    Attributes:
        utility, hit_rate: falls, as shares of the last good one's.
        volatility: rise of the deviation of a block's return, as a share of the last good one's.
        alpha: chance that any of the three is ever taken for known where it is not so.
        blocks: that are watched; then it is the last good one itself.
        most: a span of wall time after which the watch ends.
        enabled: whether there is one.
    """

    utility: Fall = 0.3
    hit_rate: Fall = 0.4
    volatility: Annotated[float, Meta(gt=0.0, le=100.0)] = 0.5
    alpha: Annotated[float, Meta(ge=0.0001, le=0.2)] = 0.05
    blocks: Blocks = 1_000
    most: str = "30d"
    enabled: bool = True


class CheckSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether what the desk lives is still what its champion knows.

    Attributes:
        archive: folder that the data service writes.
        reference: ticks after the champion began to decide that show what is usual.
        ticks: the newest ones that are looked at, at most.
        drift: how, see `DriftSettings`.
        costs: of trading.
        needs: step -> what it takes, see `NeedSpec`.
    """

    archive: str
    reference: Ticks = 100_000
    ticks: Ticks = 200_000
    drift: DriftSettings = DriftSettings()
    costs: Costs = Costs()
    needs: dict[str, Any] = {}


class GuardSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a watch is over.

    Attributes:
        promoted, last_good: what decides the desk now, and what did before.
        of: the run that promoted it.
        sha256: of the last good one's files, by name: what serves again after a rollback.
        models: that the promoted one was made of, in MLflow; and `before`, the champions before.
        rules: when it is taken back.
        block, costs: of the comparison, see `ExperimentDefinition`.
        needs: see `CheckSpec`.
    """

    promoted: ServedModel
    last_good: ServedModel
    of: str
    sha256: dict[str, str]
    models: dict[str, str] = {}
    before: dict[str, str] = {}
    rules: GuardRules = GuardRules()
    block: str = "10m"
    costs: TradingCosts = TradingCosts()
    needs: dict[str, Any] = {}


def check_drift(spec: CheckSpec) -> None:
    """Raise ConfigurationError where a reference can never show what is usual."""
    spec.costs.check()
    if spec.reference < LEAST_BLOCKS * spec.drift.block_rows:
        raise ConfigurationError(
            f"a reference of {spec.reference:,} ticks has fewer than {LEAST_BLOCKS} blocks of "
            f"{spec.drift.block_rows:,} rows (drift.block_rows), and shows nothing: make it longer, or blocks "
            "smaller"
        )
    if spec.ticks < spec.drift.confirmed * spec.drift.block_rows:
        raise ConfigurationError(
            f"{spec.ticks:,} ticks are fewer than {spec.drift.confirmed} blocks of {spec.drift.block_rows:,} rows"
        )


def check_same_model(spec: GuardSpec) -> None:
    """Raise ConfigurationError where a version of one model would be taken back to that of another."""
    if spec.promoted.model != spec.last_good.model:
        raise ConfigurationError(
            f"guard: {spec.promoted} cannot be taken back to {spec.last_good}, of another model"
        )


def check_guard(rules: GuardRules) -> None:
    """Raise ConfigurationError where a span is none."""
    try:
        parse_span(rules.most)
    except ConfigurationError as error:
        raise ConfigurationError(f"guard: {error}") from None

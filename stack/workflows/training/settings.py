"""What a person may say of a training; the rest has defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from trading.errors import ConfigurationError
from trainers.costs import Costs
from trainers.models import TEACHERS

if TYPE_CHECKING:
    from trainers.data.build import BuildSettings
    from trainers.walk_forward import TrainSettings

BARS = "ticks"
PRECISIONS, COMPILED = ("fp32", "bf16"), ("auto", "on", "off")


class TrainRequest(Struct, frozen=True):
    """What to train from and with.

    Attributes:
        data: SOURCEs, or one dataset's folder.
        bars, horizon, limit: of a dataset that is built: which ticks are rows, how far labels look ahead (a span;
            None: ten mean distances of rows), and how many ticks at most.
        seed, epochs, folds, teacher: of the training.
        fee_bps, slippage_bps, half_spread_bps: costs.
        groups, tested: of combinatorial purged cross-validation; 0 groups: none.
        limits: YAML for the backtest; None: limits for research.
        memory: ceiling, as 6G.
        precision, compiled: see `LoopSettings`.
        fresh: begin anew even where a killed training could go on.
        mlflow_uri: None: the stack's.
        batch_size: rows a step of the training.
    """

    data: tuple[str, ...] = ("skfolio:sp500",)
    bars: str = BARS
    horizon: str | None = None
    limit: int | None = None
    seed: int = 7
    epochs: int = 4
    folds: int = 3
    teacher: str = "auto"
    fee_bps: float = 0.5
    slippage_bps: float = 0.5
    half_spread_bps: float = 1.0
    groups: int = 0
    tested: int = 2
    limits: Path | None = None
    memory: str | None = None
    precision: str = "fp32"
    compiled: str = "auto"
    fresh: bool = False
    mlflow_uri: str | None = None
    batch_size: int = 1024

    @property
    def named(self) -> str:
        """The data as one text."""
        return ", ".join(self.data)

    def given_build_options(self) -> bool:
        """Whether anything was said that only building a dataset can heed."""
        return (self.bars, self.horizon, self.limit) != (BARS, None, None)

    def check(self) -> None:
        """Raise ConfigurationError where no training can be made of it.

        Loads no library of a training: whoever is asked for one has no memory for those.
        """
        for name, value, allowed in (
            ("precision", self.precision, PRECISIONS), ("compiled", self.compiled, COMPILED),
            ("teacher", self.teacher, TEACHERS),
        ):  # fmt: skip
            if value not in allowed:
                raise ConfigurationError(f"{name} {value!r}: expected one of {', '.join(allowed)}")
        for name, number in (("epochs", self.epochs), ("folds", self.folds), ("batch size", self.batch_size)):
            if number < 1:
                raise ConfigurationError(f"{name} {number}: expected 1 or more")
        if self.groups and not 0 < self.tested < self.groups:
            raise ConfigurationError(
                f"{self.tested} of {self.groups} groups cannot be tested: expected fewer than all"
            )
        self.costs()

    def costs(self) -> Costs:
        """Of trading. Raises ConfigurationError."""
        return Costs(self.fee_bps, self.slippage_bps, self.half_spread_bps).check()

    def build_settings(self) -> BuildSettings:
        """Of a dataset. Raises ConfigurationError."""
        from trading.spans import parse_span
        from trainers.data.bars import Sampling
        from trainers.data.build import BuildSettings

        horizon_ns = None if self.horizon is None else parse_span(self.horizon)
        return BuildSettings(Sampling.parse(self.bars), self.bars, horizon_ns, limit=self.limit)

    def settings(self) -> TrainSettings:
        """Of the training. Raises ConfigurationError."""
        from trainers.training.fold import FoldSettings
        from trainers.training.loop import LoopSettings
        from trainers.walk_forward import TrainSettings

        self.check()
        loop = LoopSettings(
            epochs=self.epochs, batch_size=self.batch_size, seed=self.seed, precision=self.precision,
            compiled=self.compiled,
        )  # fmt: skip
        fold = FoldSettings(seed=self.seed, teacher=self.teacher, loop=loop, costs=self.costs())
        return TrainSettings(fold=fold, folds=self.folds, groups=self.groups, tested=self.tested)

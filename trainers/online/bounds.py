"""How far an update may go, and how drift is looked for: as people say it in specs, checked without loading what
learns.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from trading.errors import ConfigurationError
from trainers.costs import Costs

MOST_STEPS, MOST_LEARNING_RATE, MOST_DISTANCE = 2_000, 1e-2, 0.5
#: Blocks of a reference tell how far a block lies from the rest by chance alone.
LEAST_BLOCKS = 16
#: Two windows of consecutive rows.
LEAST_BATCH = 64


class UpdateSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far an update may go.

    Attributes:
        seed: of what is drawn.
        steps: of each network.
        batch_rows: a step.
        learning_rate: of Adam.
        replayed: the share of a step's rows that are of the reference.
        distance_penalty: of the squared distance from the champion, as a share of its length.
        most_distance: a network goes no further, as a share of its length.
        most_gradient: gradients are cut to this length.
        fresh, held: shares of the rows, by time: the newest `held` judge, the `fresh` ones before them are learned
            from, and the rest is the reference.
        costs: of trading.
    """

    seed: Annotated[int, Meta(ge=0, le=2**31)] = 7
    steps: int = 150
    batch_rows: int = 1024
    learning_rate: float = 5e-4
    replayed: float = 0.5
    distance_penalty: float = 1.0
    most_distance: float = 0.1
    most_gradient: float = 1.0
    fresh: float = 0.4
    held: float = 0.2
    costs: Costs = Costs()

    def check(self) -> UpdateSettings:
        """Itself. Raises ConfigurationError for what is no small step."""
        bounds = {
            "steps": (1, MOST_STEPS), "batch_rows": (LEAST_BATCH, 65_536),
            "learning_rate": (1e-7, MOST_LEARNING_RATE), "most_distance": (1e-4, MOST_DISTANCE),
            "distance_penalty": (0.0, 1e3), "most_gradient": (1e-3, 1e2), "replayed": (0.1, 0.9),
            "fresh": (0.05, 0.8), "held": (0.05, 0.5),
        }  # fmt: skip
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigurationError(f"{name} {value:g} is none of a small step: {low:g} to {high:g} are")
        if self.fresh + self.held > 0.9:
            told = f"fresh {self.fresh:g} and held {self.held:g} leave less than a tenth to be replayed"
            raise ConfigurationError(told)
        self.costs.check()
        return self


class DriftSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How drift is looked for.

    Attributes:
        block_rows: of how many rows one value of each measure is made, at least: as many more as it takes for one
            block to say little about the next.
        least_psi: an index below this is no drift, whatever the reference shows (0.25: Siddiqi 2006).
        most_psi: where blocks of the reference differ so much, the feature remembers longer than the reference is,
            and is not watched.
        psi_factor: how many times the largest of the reference's own blocks.
        confirmed: so many blocks in a row must show it.
        adwin_delta: of ADWIN, the chance of a false alarm.
        slack: of Page-Hinkley, in deviations of a block's value: half of the smallest change that matters.
        rows_between_false: of Page-Hinkley, on one measure that stays what it is, in the mean.
    """

    block_rows: Annotated[int, Meta(ge=50, le=1_000_000)] = 500
    least_psi: Annotated[float, Meta(gt=0, le=10)] = 0.25
    most_psi: Annotated[float, Meta(gt=0, le=100)] = 1.0
    psi_factor: Annotated[float, Meta(ge=1, le=100)] = 2.5
    confirmed: Annotated[int, Meta(ge=1, le=100)] = 2
    adwin_delta: Annotated[float, Meta(gt=0, lt=1)] = 1e-5
    slack: Annotated[float, Meta(gt=0, le=5)] = 0.5
    rows_between_false: Annotated[int, Meta(ge=10_000)] = 3_000_000

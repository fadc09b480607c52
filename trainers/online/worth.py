"""What a pipeline's targets were worth on rows whose labels are ripe, costs counted."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from trading.arrays import Float32Array, FloatArray, Int64Array
from trading.errors import ConfigurationError
from trainers.costs import Costs
from trainers.data.dataset import Dataset
from trainers.evaluation.evaluate import information_coefficient
from trainers.evaluation.regime_report import previous
from trainers.models import calibration
from trainers.models.objectives import AVERSION, CLIP
from trainers.models.regime_teacher import observe
from trainers.online.networks import Networks

#: Measures of a block of rows, in this order.
MEASURES = ("calibration_error", "information_coefficient", "net_utility")


class Worth(Struct, frozen=True):
    """Of n rows, float64 [n] each.

    Attributes:
        net: log return to the symbol's next row times the target that was held, less what changing it cost.
        utility: the same in deviations of the label, less half the aversion times its square.
    """

    net: FloatArray
    utility: FloatArray


def worth(data: Dataset, rows: Int64Array, target: FloatArray, costs: Costs) -> Worth:
    """Value targets, float64 [n] in [-1, 1], of rows in order of arrival; each symbol begins flat."""
    before = previous(data.symbols[rows])
    held = np.where(before >= 0, target[before], 0.0)
    cost = np.abs(target - held) * costs.unit(data.half_spread[rows])
    net = target * data.labels.next_log_return[rows] - cost
    deviation = data.labels.deviation[rows]
    scaled = np.divide(net, deviation, out=np.zeros_like(net), where=deviation > 1e-12)
    scaled = np.clip(scaled, -CLIP, CLIP)
    return Worth(net, scaled - 0.5 * AVERSION * scaled**2)


def blocks_of(count: int, size: int) -> list[slice]:
    """Whole blocks of `size` rows; what is left over is in none."""
    return [slice(begin, begin + size) for begin in range(0, count - size + 1, size)]


class Observed(Struct, frozen=True):
    """n rows that networks were asked about, in order of arrival, and what became of them.

    Attributes:
        features: float32 [n, 32].
        probabilities, taught: float64 [n, 3], of the regimes, and what the teacher says of them.
        target, realised: float64 [n], and the log return to the label's end.
        utility: float64 [n], see `Worth`.
        time_ns: int64 [n].
    """

    features: Float32Array
    probabilities: FloatArray
    taught: FloatArray
    target: FloatArray
    realised: FloatArray
    utility: FloatArray
    time_ns: Int64Array

    def __len__(self) -> int:
        return len(self.target)

    def part(self, rows: slice) -> Observed:
        """Some of them."""
        return Observed(*(getattr(self, name)[rows] for name in self.__struct_fields__))

    def check_finite(self, what: str) -> None:
        """Raise ConfigurationError where anything of them is no number: nothing can be compared with it."""
        for name in self.__struct_fields__:
            broken = ~np.isfinite(getattr(self, name)).reshape(len(self), -1).all(axis=1)
            if broken.any():
                raise ConfigurationError(f"{name} of {int(broken.sum()):,} rows of {what} is not finite")

    def measures(self, block_rows: int) -> FloatArray:
        """Of each block of rows how good the networks were, float64 [blocks, 3], in the order of MEASURES."""
        found = [
            (
                calibration.curve(self.probabilities[part], self.taught[part]).error,
                information_coefficient(self.target[part], self.realised[part]),
                float(self.utility[part].mean()),
            )
            for part in blocks_of(len(self), block_rows)
        ]
        return np.array(found, np.float64).reshape(-1, len(MEASURES))


def observe_rows(networks: Networks, data: Dataset, rows: Int64Array, costs: Costs) -> Observed:
    """Ask networks about rows with a ripe label, int64 [n], in order of arrival."""
    answers = networks.ask(data.features, rows)
    taught = networks.teacher.filtered(observe(data), data.symbols)[rows]
    return Observed(
        np.asarray(data.features[rows]), answers.probabilities, taught, answers.target, data.labels.realised[rows],
        worth(data, rows, answers.target, costs).utility, data.time_ns[rows],
    )  # fmt: skip

"""Whether a feature knows what it cannot know.

A label is a function of prices after its row. A feature that agrees with it much better than any honest one ever
did has seen them: by a slip in the kernel, by a column that was put there, or by rows that were shifted.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from trading.arrays import FloatArray
from trading.errors import ConfigurationError
from trading.features.definitions import FEATURES
from trainers.data.dataset import Dataset

#: Rank correlation with the future beyond which nothing is honest. The best features of the recorded markets that
#: were tried (a quote's imbalance against the next change of the mid, in ETHUSDT) reach 0.45.
BOUND = 0.6
MOST_ROWS = 200_000


class Suspect(Struct, frozen=True):
    """A feature, what of the future it agrees with, and how well (Spearman)."""

    feature: str
    target: str
    correlation: float


def suspects(data: Dataset, bound: float = BOUND) -> list[Suspect]:
    """Features whose rank correlation with the label or the next return is at least `bound`, the worst first."""
    rows = np.flatnonzero(data.labels.valid)
    if len(rows) > MOST_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_ROWS).astype(np.int64)]
    targets = {
        "the label": data.labels.realised[rows],
        "the label's side": data.labels.side[rows].astype(np.float64),
        "the next return": data.labels.next_log_return[rows],
    }
    ranked = {name: ranks(values) for name, values in targets.items()}
    found = []
    for k, name in enumerate(FEATURES):
        mine = ranks(data.features[rows, k].astype(np.float64))
        told = {target: float(abs(mine @ values) / len(rows)) for target, values in ranked.items()}
        target = max(told, key=lambda t: told[t])
        if told[target] >= bound:
            found.append(Suspect(name, target, told[target]))
    return sorted(found, key=lambda s: -s.correlation)


def check(data: Dataset, bound: float = BOUND) -> None:
    """Raise ConfigurationError where a feature knows the future, with its name."""
    found = suspects(data, bound)
    if found:
        told = "; ".join(f"{s.feature} agrees with {s.target} at {s.correlation:.2f}" for s in found[:5])
        raise ConfigurationError(
            f"leakage: {told} (rank correlation, {bound:g} is the bound). What a row cannot know must not be "
            "among its features: look at where this dataset came from, and build it again from its ticks"
        )


def ranks(values: FloatArray) -> FloatArray:
    """Ranks of mean 0 and deviation 1, ties averaged; zeros for a constant."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    upto = np.cumsum(counts)
    middle = upto - 0.5 * (counts + 1)
    found: FloatArray = middle[inverse]
    deviation = found.std()
    return (found - found.mean()) / deviation if deviation > 0.0 else np.zeros_like(found)

"""What is decided from a model's answers: by it two models are compared in words that its task knows."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from exporters.formats.tensors import Array, Arrays
from trading.decision.policy import DecisionPolicy
from trading.decision.sizing import target_quantity
from trading.models.signature import ModelSignature
from trading.risk.limits import LimitSet

#: An order of the pipeline's; a class; or a number, of which the order among others counts.
Task = Literal["action", "label", "value"]
#: How a table calls what differs.
HEADINGS: dict[Task, str] = {
    "action": "actions flipped", "label": "labels that differ", "value": "rank correlation",
}  # fmt: skip
#: An output of several numbers that is called so holds one a class.
CLASSES = ("probab", "logit", "class", "label", "softmax")
#: Columns whose ranks are compared: of an image there would be many.
MOST_COLUMNS = 64
#: Rows whose order says something, and how far they must lie apart, as a share of the largest.
LEAST_RANKED, LEAST_SPREAD = 16, 1e-4


def task_of(signature: ModelSignature) -> Task:
    """What is decided from a model's answers."""
    outputs = signature.outputs
    if any(t.name == "target_position" for t in outputs):
        return "action"
    is_whole = any(not t.dtype.startswith("FP") for t in outputs)
    named = (word in t.name.lower() for t in outputs if math.prod(t.dims) > 1 for word in CLASSES)
    return "label" if is_whole or any(named) else "value"


def told(task: Task, flip_rate: float, rank_correlation: float | None) -> str:
    """What differs, under its heading."""
    if task != "value":
        return f"{flip_rate:.2%}"
    return "–" if rank_correlation is None else f"{rank_correlation:.4f}"


def in_words(task: Task, flip_rate: float, rank_correlation: float | None) -> str:
    """The same in a sentence."""
    if task == "action":
        return f"{flip_rate:.2%} of the actions flip"
    if task == "label":
        return f"{flip_rate:.2%} of the labels differ"
    return "no two rows to rank" if rank_correlation is None else f"rank correlation {rank_correlation:.4f}"


def rank_correlation(wanted: Arrays, got: Arrays) -> float | None:
    """Spearman's, the lowest of the outputs' first columns.

    None where nothing tells rows apart: of few rows, and of a column that is all alike but for rounding, the order
    says nothing.
    """
    if len(wanted[0]) < LEAST_RANKED:
        return None
    found = [
        spearman(a[:, k], b[:, k])
        for a, b in (
            (x.reshape(len(x), -1)[:, :MOST_COLUMNS], y.reshape(len(y), -1)[:, :MOST_COLUMNS])
            for x, y in zip(wanted, got, strict=True)
            if x.dtype.kind == "f"
        )
        for k in range(a.shape[1])
        if is_spread(a[:, k])
    ]
    return min(found, default=None)


def is_spread(values: Array) -> bool:
    """Whether finite numbers of a column lie further apart than rounding could put them."""
    known = values[np.isfinite(values)].astype(np.float64)
    return len(known) >= LEAST_RANKED and bool(np.ptp(known) > LEAST_SPREAD * np.abs(known).max())


def actions(signature: ModelSignature, outputs: Arrays) -> Array:
    """What would be done about each row, as a whole number.

    A model with a target_position: buy, hold or sell from a flat book at default limits. Else the label; else
    the largest of several outputs; else the sign.
    """
    by_name = {t.name: a for t, a in zip(signature.outputs, outputs, strict=True)}
    if "target_position" in by_name:
        return orders(by_name["target_position"][:, 0])
    whole = [a for a in outputs if a.dtype.kind in "iub"]
    if whole:
        return whole[0].reshape(len(whole[0]), -1)[:, 0].astype(np.int64)
    wide = [a for a in outputs if a[0].size > 1]
    if wide:
        return np.asarray(wide[-1].reshape(len(wide[-1]), -1).argmax(axis=1))
    with np.errstate(invalid="ignore"):
        return np.sign(outputs[0].reshape(len(outputs[0]), -1)[:, 0]).astype(np.int64)


def orders(targets: Array) -> Array:
    """Sign of the order that the gateway would send for each target, from a flat book at a price of 100."""
    policy = DecisionPolicy(LimitSet())
    limits, price = policy.limits.book, 100.0
    units = np.array(
        [
            target_quantity(float(t), price, limits.max_position_notional, limits.lot) if math.isfinite(t) else 0.0
            for t in targets
        ]
    )
    units[np.abs(units) * price < policy.rebalance_band * limits.max_position_notional] = 0.0
    return np.sign(units).astype(np.int64)


def spearman(a: Array, b: Array) -> float:
    """Rank correlation of two arrays [rows, *dims], the lowest of their columns; 1 where both are all alike."""
    x, y = (v.reshape(len(v), -1).astype(np.float64) for v in (a, b))
    found = [1.0]
    for k in range(x.shape[1]):
        p, q = ranks(x[:, k]), ranks(y[:, k])
        if np.ptp(p) and np.ptp(q):
            found.append(float(np.corrcoef(p, q)[0, 1]))
        elif np.ptp(p) or np.ptp(q):
            found.append(0.0)
    return min(found)


def ranks(values: Array) -> Array:
    """Ranks, of equal values their mean."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2.0)[where])

"""LightGBM's own model as an ONNX graph: its trees as they are, then what its objective makes of their sum.

The model is read from what `Booster.dump_model` tells. LightGBM compares in double precision: of float32 rows
`x <= threshold` says the same of the largest float32 that is not more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from msgspec import Struct

from exporters.errors import ExportError
from exporters.formats.building import INPUT, MARGIN, PREDICTION, Nodes, TreeColumns
from exporters.formats.tensors import Array
from exporters.formats.trees import floor32

#: `kZeroThreshold`, a number of single precision: what is not beyond it is read as zero.
ZERO = np.float32(1e-35)
CATEGORY = "category"
#: What its `AvoidInf` makes of an infinity.
LARGEST = 1e300

#: What an objective makes of a margin: `ConvertOutput`, by the objective's name.
OBJECTIVES = {
    **dict.fromkeys(
        [
            "regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg",
            "custom", "none",
        ],
        "identity",
    ),
    **dict.fromkeys(["poisson", "gamma", "tweedie"], "exp"),
    **dict.fromkeys(["binary", "cross_entropy", "multiclassova"], "sigmoid"),
    "cross_entropy_lambda": "softplus",
    "multiclass": "softmax",
}  # fmt: skip


class BoosterModel(Struct, frozen=True):
    """A booster, read.

    Attributes:
        objective: by LightGBM's name; "custom" for one of the trainer's own.
        sigmoid: the factor of a margin within the logistic function.
        is_root: whether it was trained on the square root of what it answers.
        features: how many columns.
        groups: margins a row: one, or one a class.
        trees: each tree's root.
        is_mean: whether the trees' mean is taken instead of their sum.
    """

    objective: str
    sigmoid: float
    is_root: bool
    features: int
    groups: int
    trees: list[Mapping[str, Any]]
    is_mean: bool


def read(dumped: Mapping[str, Any]) -> BoosterModel:
    """From `Booster.dump_model()`. Raises ExportError for what has no form here."""
    name, *given = str(dumped.get("objective") or "custom").split()
    settings = dict(part.split(":", 1) for part in given if ":" in part)
    if name not in OBJECTIVES:
        raise ExportError(
            f"its objective is {name!r}, and what that makes of a sum of trees is not known here: expected one of "
            f"{', '.join(sorted(OBJECTIVES))}"
        )
    trees = [tree["tree_structure"] for tree in dumped["tree_info"]]
    if any("leaf_coeff" in node for root in trees for node in nodes_of(root)):
        raise ExportError("each leaf of its trees is a linear model: train it with linear_tree=False")
    return BoosterModel(
        objective=name,
        sigmoid=float(settings.get("sigmoid", 1.0)),
        is_root="sqrt" in given,
        features=int(dumped["max_feature_idx"]) + 1,
        groups=int(dumped["num_tree_per_iteration"]),
        trees=trees,
        is_mean=bool(dumped.get("average_output")),
    )


def splits(model: BoosterModel) -> dict[int, set[float]]:
    """Where the trees split each column by size, in double precision."""
    found: dict[int, set[float]] = {}
    for node in (n for root in model.trees for n in nodes_of(root)):
        if node.get("decision_type") == "<=":
            found.setdefault(int(node["split_feature"]), set()).add(float(node["threshold"]))
    return found


def nodes_of(root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A tree's nodes, from its root."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [node[side] for side in ("right_child", "left_child") if side in node]


def check_has_probabilities(model: BoosterModel) -> None:
    """Raise ExportError for a classifier whose objective says nothing of probabilities."""
    if model.objective in {"custom", "none"}:
        raise ExportError(
            "a classifier with an objective of one's own answers with raw scores, not with probabilities: log its "
            "booster_, and make probabilities of its scores where they are used"
        )


def to_onnx(model: BoosterModel, *, classes: Array | None = None, dtype: Any = np.float32) -> Any:
    """An ONNX model of one input, `dtype` [batch, features].

    Args:
        model: what to write.
        classes: of an LGBMClassifier, which answers with the label, int64 [batch], and the probability of each
            class, float32 [batch, classes]; None for what answers as `Booster.predict`: float32 [batch, groups].
        dtype: of the rows: np.float32, or np.float64.

    Raises:
        ExportError: it has what has no form in ONNX.
    """
    made = Nodes()
    rows = as_read(made, model, dtype)
    columns = TreeColumns()
    # The mean of as many trees as a class has.
    share = model.groups / len(model.trees) if model.is_mean else 1.0
    for number, root in enumerate(model.trees):
        add_tree(columns, number, number % model.groups, root, share, dtype)
    made.nodes.append(columns.regressor(rows, MARGIN, [0.0] * model.groups, dtype=dtype))
    answer = answered(made, model)
    if classes is None:
        return made.model("lightgbm", model.features, [answer], dtype=dtype)
    outputs = made.classified(answer, model.groups)
    made.named(classes)
    return made.model("lightgbm", model.features, outputs, dtype=dtype)


def column_kinds(model: BoosterModel) -> dict[int, str]:
    """What each split column is: a category, or what is missing in it: "Zero", "NaN", or "None" (it is a zero).

    Raises ExportError where trees do not agree.
    """
    found: dict[int, set[str]] = {}
    for node in (n for root in model.trees for n in nodes_of(root) if "split_feature" in n):
        kind = CATEGORY if node["decision_type"] == "==" else str(node["missing_type"])
        found.setdefault(int(node["split_feature"]), set()).add(kind)
    for column, kinds in sorted(found.items()):
        if len(kinds) > 1:
            raise ExportError(
                f"its trees do not agree about what is missing in column number {column + 1} "
                f"({', '.join(sorted(kinds))}): they come from trainings with different rows or settings "
                "(init_model); train it anew"
            )
    return {column: next(iter(kinds)) for column, kinds in found.items()}


def as_read(made: Nodes, model: BoosterModel, dtype: Any) -> str:
    """The rows as its trees see them; returns the tensor's name."""
    kinds = column_kinds(model)
    zero, missing, category = (
        np.isin(np.arange(model.features), [c for c, kind in kinds.items() if kind == wanted])
        for wanted in ("Zero", "None", CATEGORY)
    )
    made.constant("zero", np.zeros(1, dtype))
    made.constant("least", np.array([ZERO], dtype))
    made.add("Abs", [INPUT], "sizes")
    made.add("LessOrEqual", ["sizes", "least"], "is_zero")
    rows = made.add("Where", ["is_zero", "zero", INPUT], "zeroed")
    if zero.any():
        made.constant("absent", np.full(1, np.nan, dtype))
        made.add("Where", ["is_zero", "absent", INPUT], "absented")
        rows = made.pick(zero, "absented", rows, "with_absent")
    if missing.any():
        made.add("IsNaN", [rows], "is_missing")
        made.add("Where", ["is_missing", "zero", rows], "filled")
        rows = made.pick(missing, "filled", rows, "with_filled")
    if category.any():
        # The whole part, towards zero.
        made.add("Floor", ["sizes"], "floors")
        made.add("Sign", [rows], "signs")
        made.add("Mul", ["floors", "signs"], "wholes")
        rows = made.pick(category, "wholes", rows, "with_wholes")
    return rows


def add_tree(
    columns: TreeColumns, number: int, group: int, root: Mapping[str, Any], share: float, dtype: Any
) -> None:
    """A tree's nodes; each has as many numbers as it names categories, and the others one."""
    nodes = list(nodes_of(root))
    first, free = {}, 0
    for node in nodes:
        first[id(node)] = free
        free += len(categories_of(node)) or 1
    for node in nodes:
        at = first[id(node)]
        if "split_feature" not in node:
            columns.add_leaf(number, at, group, float(node["leaf_value"]) * share)
            continue
        feature, named = int(node["split_feature"]), categories_of(node)
        left, right = (first[id(node[side])] for side in ("left_child", "right_child"))
        if named:
            chain = range(at, at + len(named))
            columns.add_categories(number, chain, feature, named, named=left, others=right, missing_is_named=False)
            continue
        columns.add(
            number, at, "BRANCH_LEQ", feature, threshold(node, dtype), left, right, int(node["default_left"])
        )


def categories_of(node: Mapping[str, Any]) -> list[int]:
    """Those that go left; none where a node compares."""
    return [int(c) for c in str(node["threshold"]).split("||")] if node.get("decision_type") == "==" else []


def threshold(node: Mapping[str, Any], dtype: Any) -> float:
    """Where a node splits rows of a dtype."""
    at = float(node["threshold"])
    if at >= LARGEST:
        # An infinity counts as its largest number, which only what is missing lies beyond.
        return float(np.inf)
    return at if dtype == np.float64 else float(floor32(at))


def answered(made: Nodes, model: BoosterModel) -> str:
    """What the objective makes of the margin; returns the tensor's name."""
    transform = OBJECTIVES[model.objective]
    if transform == "softmax":
        return made.add("Softmax", [MARGIN], PREDICTION, axis=1)
    if transform == "sigmoid":
        made.constant("sigmoid", np.full(1, model.sigmoid, np.float32))
        made.add("Mul", [MARGIN, "sigmoid"], "scaled")
        return made.add("Sigmoid", ["scaled"], PREDICTION)
    if model.is_root:
        # Squared, with its sign.
        made.add("Abs", [MARGIN], "margins")
        return made.add("Mul", [MARGIN, "margins"], PREDICTION)
    return made.add({"identity": "Identity", "exp": "Exp", "softplus": "Softplus"}[transform], [MARGIN], PREDICTION)

"""XGBoost's own model as an ONNX graph: its trees as they are, then what its objective makes of their sum.

The model is read from XGBoost's documented JSON, in which every number is the float32 that it computes with: a
split is the same comparison here as there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from msgspec import Struct
from onnx import TensorProto

from exporters.errors import ExportError
from exporters.formats.building import INPUT, MARGIN, PREDICTION, Nodes, TreeColumns
from exporters.formats.tensors import Array

#: What an objective's base score is in the margin's space, and what it makes of a margin: XGBoost's `ProbToMargin`
#: and `PredTransform`, by the objective's name.
_AS_IT_IS = [
    "reg:squarederror", "reg:linear", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror",
    "reg:quantileerror", "rank:pairwise", "rank:ndcg", "rank:map",
]  # fmt: skip
_LOG = ["count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"]
OBJECTIVES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(_AS_IT_IS, ("identity", "identity")),
    **dict.fromkeys(_LOG, ("log", "exp")),
    "binary:logistic": ("logit", "sigmoid"),
    "reg:logistic": ("logit", "sigmoid"),
    "binary:logitraw": ("identity", "identity"),
    "binary:hinge": ("identity", "hinge"),
    "multi:softprob": ("identity", "softmax"),
    "multi:softmax": ("identity", "argmax"),
}
#: In single precision, as XGBoost does.
LINKS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda score: score,
    "log": np.log,
    "logit": lambda score: -np.log(np.float32(1.0) / score - np.float32(1.0)),
}


class BoosterModel(Struct, frozen=True):
    """A booster, read.

    Attributes:
        objective: by XGBoost's name.
        features: how many columns.
        groups: margins a row: one, or one a class or target.
        base: of each group, in the margin's space.
        booster: "gbtree", "dart" or "gblinear".
        parts: what XGBoost keeps of it.
        best_iteration: of early stopping, counted from 0; None without.
    """

    objective: str
    features: int
    groups: int
    base: list[float]
    booster: str
    parts: Mapping[str, Any]
    best_iteration: int | None


def read(raw: bytes) -> BoosterModel:
    """From `Booster.save_raw("json")`. Raises ExportError for an objective whose answer is not known here."""
    learner = json.loads(raw)["learner"]
    parameters, objective = learner["learner_model_param"], str(learner["objective"]["name"])
    if objective not in OBJECTIVES:
        raise ExportError(
            f"its objective is {objective!r}, and what that makes of a sum of trees is not known here: expected "
            f"one of {', '.join(sorted(OBJECTIVES))}"
        )
    groups = max(1, int(parameters["num_class"]), int(parameters.get("num_target", 1)))
    told = json.loads(str(parameters["base_score"]))
    scores = np.asarray(told if isinstance(told, list) else [told], np.float32)
    with np.errstate(divide="ignore"):
        base = np.broadcast_to(LINKS[OBJECTIVES[objective][0]](scores), (groups,)).tolist()
    booster = learner["gradient_booster"]
    best = learner.get("attributes", {}).get("best_iteration")
    return BoosterModel(
        objective=objective,
        features=int(parameters["num_feature"]),
        groups=groups,
        base=base,
        booster=str(booster["name"]),
        parts=booster,
        best_iteration=None if best is None else int(best),
    )


def check_has_one_label(model: BoosterModel) -> None:
    """Raise ExportError for a classifier of several questions: its columns are no classes."""
    if model.groups > 1 and not model.objective.startswith("multi:"):
        raise ExportError(
            f"it answers {model.groups} questions at once, and one label is served: train a classifier for each"
        )


def to_onnx(model: BoosterModel, *, iterations: int | None, is_classifier: bool) -> Any:
    """An ONNX model of one input, float32 [batch, features].

    Args:
        model: what to write.
        iterations: so many of its first; None takes all.
        is_classifier: answers with the label, int64 [batch], and the probability of each class, float32
            [batch, classes], as XGBClassifier does; else with the prediction as Booster.predict does.

    Raises:
        ExportError: it has what has no form in ONNX.
    """
    made = Nodes()
    if model.booster == "gblinear":
        linear(made, model)
    else:
        trees(made, model, iterations)
    transform = OBJECTIVES[model.objective][1]
    # Its classifier asks the one for probabilities, too.
    answer = answered(made, "softmax" if is_classifier and transform == "argmax" else transform)
    outputs = made.classified(answer, model.groups) if is_classifier else [answer]
    return made.model("xgboost", model.features, outputs)


# ---- the margin ---------------------------------------------------------------------------------


def trees(made: Nodes, model: BoosterModel, iterations: int | None) -> None:
    """A node that sums the trees of the first iterations."""
    parts = model.parts
    kept = (parts["gbtree"] if model.booster == "dart" else parts)["model"]
    count = len(kept["trees"])
    if iterations is not None:
        count = min(count, iterations_end(kept, model.groups, iterations))
    if not count:
        raise ExportError("it has no tree: train it again")
    # Single precision, as XGBoost multiplies.
    # XGBoost 3.4 keeps them beside the trees.
    dropped = kept.get("weight_drop") or parts.get("weight_drop") or [1.0] * count
    weights = np.asarray(dropped, np.float32)
    columns = TreeColumns()
    for number, (tree, group) in enumerate(zip(kept["trees"][:count], kept["tree_info"], strict=False)):
        add_tree(columns, number, int(group), tree, weights[number])
    rows = whole_categories(made, model.features, kept["trees"][:count])
    made.nodes.append(columns.regressor(rows, MARGIN, model.base))


def whole_categories(made: Nodes, features: int, trees_: list[Mapping[str, Any]]) -> str:
    """Which tensor the trees read: of a category XGBoost takes the whole part."""
    columns = {int(tree["split_indices"][node]) for tree in trees_ for node in categories_of(tree)}
    if not columns:
        return INPUT
    made.add("Floor", [INPUT], "floors")
    return made.pick(np.isin(np.arange(features), list(columns)), "floors", INPUT, "rows")


def iterations_end(kept: Mapping[str, Any], groups: int, iterations: int) -> int:
    """How many trees the first iterations have."""
    if "iteration_indptr" in kept:
        ends = kept["iteration_indptr"]
        return int(ends[min(iterations, len(ends) - 1)])
    parallel = int(kept["gbtree_model_param"].get("num_parallel_tree", 1) or 1)
    return iterations * groups * parallel


def add_tree(columns: TreeColumns, number: int, group: int, tree: Mapping[str, Any], weight: np.float32) -> None:
    """A tree's nodes, from its root: what was pruned is still in its lists. Raises ExportError."""
    if int(tree["tree_param"].get("size_leaf_vector", 1) or 1) > 1:
        raise ExportError(
            "each leaf of its trees answers for several targets: train it with multi_strategy='one_output_per_tree'"
        )
    left, right, conditions = tree["left_children"], tree["right_children"], tree["split_conditions"]
    categories, reached = categories_of(tree), [0]
    for node in reached:
        reached += [left[node], right[node]] if left[node] != -1 else []
    # Without holes: ONNX Runtime takes no number that is not less than how many nodes there are.
    number_of = {node: k for k, node in enumerate(reached)}
    free = len(reached)
    for node, at in number_of.items():
        if left[node] == -1:
            columns.add_leaf(number, at, group, float(np.float32(conditions[node]) * weight))
            continue
        feature, to_left = int(tree["split_indices"][node]), int(tree["default_left"][node])
        yes, no = number_of[left[node]], number_of[right[node]]
        if node not in categories:
            columns.add(number, at, "BRANCH_LT", feature, float(conditions[node]), yes, no, to_left)
            continue
        # A category that is named goes right, whichever way the others go.
        chain = [at, *range(free, free + len(categories[node]) - 1)]
        free += len(chain) - 1
        columns.add_categories(
            number, chain, feature, categories[node], named=no, others=yes, missing_is_named=not to_left
        )


def categories_of(tree: Mapping[str, Any]) -> dict[int, list[int]]:
    """The categories that go right, by node."""
    nodes, starts = tree.get("categories_nodes", []), tree.get("categories_segments", [])
    sizes, stored = tree.get("categories_sizes", []), tree.get("categories", [])
    return {
        int(node): [int(c) for c in stored[start : start + size]]
        for node, start, size in zip(nodes, starts, sizes, strict=True)
    }


def linear(made: Nodes, model: BoosterModel) -> None:
    """Nodes of a weighted sum in which what is missing counts for nothing."""
    stored = np.asarray(model.parts["model"]["weights"], np.float32).reshape(model.features + 1, model.groups)
    made.constant("weights", stored[:-1])
    # Of several base scores XGBoost adds the first to each class. Seen with 3.2.
    made.constant("bias", stored[-1] + np.float32(model.base[0]))
    made.constant("nothing", np.zeros(1, np.float32))
    made.add("IsNaN", [INPUT], "is_missing")
    made.add("Where", ["is_missing", "nothing", INPUT], "present")
    made.add("Gemm", ["present", "weights", "bias"], MARGIN)


# ---- the answer ---------------------------------------------------------------------------------


def answered(made: Nodes, transform: str) -> str:
    """What the objective makes of the margin; returns the tensor's name."""
    simple = {"identity": "Identity", "sigmoid": "Sigmoid", "exp": "Exp"}
    if transform in simple:
        return made.add(simple[transform], [MARGIN], PREDICTION)
    if transform == "softmax":
        return made.add("Softmax", [MARGIN], PREDICTION, axis=1)
    if transform == "argmax":
        made.add("ArgMax", [MARGIN], "best", axis=1, keepdims=1)
        return made.add("Cast", ["best"], PREDICTION, to=TensorProto.FLOAT)
    made.constant("zero", np.zeros(1, np.float32))
    made.add("Greater", [MARGIN, "zero"], "is_positive")
    return made.add("Cast", ["is_positive"], PREDICTION, to=TensorProto.FLOAT)

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
from onnx import helper, numpy_helper

from exporters.errors import ExportError
from exporters.formats.graph import BATCH
from exporters.formats.tensors import Array

OPSET, ML_OPSET, IR_VERSION = 18, 3, 8
INPUT, MARGIN, PREDICTION = "input", "margin", "prediction"
LABEL, PROBABILITIES = "label", "probabilities"

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
    nodes, constants = linear(model) if model.booster == "gblinear" else trees(model, iterations)
    made = Nodes(nodes, constants)
    transform = OBJECTIVES[model.objective][1]
    # Its classifier asks the one for probabilities, too.
    answer = made.answer("softmax" if is_classifier and transform == "argmax" else transform)
    outputs = made.classified(answer, model.groups) if is_classifier else [answer]
    kinds = {LABEL: "INT64", PROBABILITIES: "FLOAT"}
    graph = helper.make_graph(
        made.nodes,
        "xgboost",
        [_value(INPUT, "FLOAT", [BATCH, model.features])],
        [_value(name, kinds.get(name, "FLOAT"), None) for name in outputs],
        made.constants,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="ultrathink")


def _value(name: str, kind: str, shape: list[Any] | None) -> Any:
    from onnx import TensorProto

    return helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape)


# ---- the margin ---------------------------------------------------------------------------------


class TreeColumns:
    """Attributes of ONNX's TreeEnsembleRegressor, node by node."""

    def __init__(self) -> None:
        self.nodes: dict[str, list[Any]] = {
            name: []
            for name in (
                "treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids",
                "missing_value_tracks_true",
            )
        }  # fmt: skip
        self.leaves: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}

    def add(
        self, tree: int, node: int, mode: str, feature: int = 0, value: float = 0.0, yes: int = 0, no: int = 0,
        missing_is_yes: int = 0,
    ) -> None:  # fmt: skip
        """A node; of a leaf the first three say all."""
        row = (tree, node, feature, mode, value, yes, no, missing_is_yes)
        for column, cell in zip(self.nodes.values(), row, strict=True):
            column.append(cell)

    def add_leaf(self, tree: int, node: int, group: int, weight: float) -> None:
        """A leaf with what it adds to a group's margin."""
        self.add(tree, node, "LEAF")
        for column, cell in zip(self.leaves.values(), (tree, node, group, weight), strict=True):
            column.append(cell)

    def attributes(self) -> dict[str, list[Any]]:
        """As ONNX names them."""
        return {f"nodes_{k}": v for k, v in self.nodes.items()} | {f"target_{k}": v for k, v in self.leaves.items()}


def trees(model: BoosterModel, iterations: int | None) -> tuple[list[Any], list[Any]]:
    """A node that sums the trees of the first iterations."""
    parts = model.parts
    kept = (parts["gbtree"] if model.booster == "dart" else parts)["model"]
    count = len(kept["trees"])
    if iterations is not None:
        count = min(count, iterations_end(kept, model.groups, iterations))
    if not count:
        raise ExportError("it has no tree: train it again")
    # Single precision, as XGBoost multiplies.
    weights = np.asarray(parts.get("weight_drop", [1.0] * count), np.float32)
    columns = TreeColumns()
    for number, (tree, group) in enumerate(zip(kept["trees"][:count], kept["tree_info"], strict=False)):
        add_tree(columns, number, int(group), tree, weights[number])
    rows, before, constants = whole_categories(model.features, kept["trees"][:count])
    attributes: dict[str, Any] = columns.attributes()
    node = helper.make_node(
        "TreeEnsembleRegressor", [rows], [MARGIN], domain="ai.onnx.ml", n_targets=model.groups,
        base_values=model.base, aggregate_function="SUM", post_transform="NONE", **attributes,
    )  # fmt: skip
    return [*before, node], constants


def whole_categories(features: int, trees_: list[Mapping[str, Any]]) -> tuple[str, list[Any], list[Any]]:
    """Which tensor the trees read, and what makes it: of a category XGBoost takes the whole part."""
    columns = {int(tree["split_indices"][node]) for tree in trees_ for node in categories_of(tree)}
    if not columns:
        return INPUT, [], []
    mask = np.isin(np.arange(features), list(columns))
    nodes = [
        helper.make_node("Floor", [INPUT], ["floors"]),
        helper.make_node("Where", ["is_category", "floors", INPUT], ["rows"]),
    ]
    return "rows", nodes, [numpy_helper.from_array(mask, "is_category")]


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
        # A category that is named goes right, whichever way the others go; ONNX knows one comparison a node.
        chain = [at, *range(free, free + len(categories[node]) - 1)]
        free += len(chain) - 1
        for here, category, after in zip(chain, categories[node], [*chain[1:], yes], strict=True):
            columns.add(number, here, "BRANCH_EQ", feature, float(category), no, after, 1 - to_left)


def categories_of(tree: Mapping[str, Any]) -> dict[int, list[int]]:
    """The categories that go right, by node."""
    nodes, starts = tree.get("categories_nodes", []), tree.get("categories_segments", [])
    sizes, stored = tree.get("categories_sizes", []), tree.get("categories", [])
    return {
        int(node): [int(c) for c in stored[start : start + size]]
        for node, start, size in zip(nodes, starts, sizes, strict=True)
    }


def linear(model: BoosterModel) -> tuple[list[Any], list[Any]]:
    """Nodes of a weighted sum in which what is missing counts for nothing, and their constants."""
    stored = np.asarray(model.parts["model"]["weights"], np.float32).reshape(model.features + 1, model.groups)
    constants = {
        "weights": stored[:-1],
        # Of several base scores XGBoost adds the first to each class. Seen with 3.2.
        "bias": stored[-1] + np.float32(model.base[0]),
        "nothing": np.zeros(1, np.float32),
    }
    nodes = [
        helper.make_node("IsNaN", [INPUT], ["is_missing"]),
        helper.make_node("Where", ["is_missing", "nothing", INPUT], ["present"]),
        helper.make_node("Gemm", ["present", "weights", "bias"], [MARGIN]),
    ]
    return nodes, [numpy_helper.from_array(a, name) for name, a in constants.items()]


# ---- the answer ---------------------------------------------------------------------------------


class Nodes:
    """A graph that grows from the margin on."""

    def __init__(self, nodes: list[Any], constants: list[Any]) -> None:
        self.nodes, self.constants = nodes, constants

    def answer(self, transform: str) -> str:
        """What the objective makes of the margin; returns the tensor's name."""
        simple = {"identity": "Identity", "sigmoid": "Sigmoid", "exp": "Exp"}
        if transform in simple:
            self._add(simple[transform], [MARGIN], PREDICTION)
        elif transform == "softmax":
            self._add("Softmax", [MARGIN], PREDICTION, axis=1)
        elif transform == "argmax":
            self._add("ArgMax", [MARGIN], "best", axis=1, keepdims=1)
            self._add("Cast", ["best"], PREDICTION, to=1)
        else:
            self._constant("zero", np.zeros(1, np.float32))
            self._add("Greater", [MARGIN, "zero"], "is_positive")
            self._add("Cast", ["is_positive"], PREDICTION, to=1)
        return PREDICTION

    def classified(self, prediction: str, groups: int) -> list[str]:
        """Label and probabilities of it, as XGBClassifier gives them; returns the tensors' names."""
        if groups > 1:
            self._add("Identity", [prediction], PROBABILITIES)
            self._add("ArgMax", [prediction], LABEL, axis=1, keepdims=0)
            return [LABEL, PROBABILITIES]
        self._constant("one", np.ones(1, np.float32))
        self._constant("half", np.full(1, 0.5, np.float32))
        self._constant("flat", np.array([-1], np.int64))
        self._add("Sub", ["one", prediction], "other")
        self._add("Concat", ["other", prediction], PROBABILITIES, axis=1)
        self._add("Greater", [prediction, "half"], "is_second")
        self._add("Cast", ["is_second"], "second", to=7)
        self._add("Reshape", ["second", "flat"], LABEL)
        return [LABEL, PROBABILITIES]

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))

    def _constant(self, name: str, value: Array) -> None:
        self.constants.append(numpy_helper.from_array(value, name))

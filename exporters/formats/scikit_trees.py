"""scikit-learn's trees, forests and histogram boosting as ONNX graphs: their nodes as they are.

skl2onnx's own forms send what is missing always to the right, round histogram boosting's splits to the nearest
float32, and lose its categories and the exponential of its losses. Seen with skl2onnx 1.20.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from exporters.errors import ExportError
from exporters.formats.building import INPUT, LABEL, MARGIN, PREDICTION, Nodes, TreeColumns
from exporters.formats.trees import floor32, nearest32

FORESTS = (
    "DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor",
    "ExtraTreesClassifier", "ExtraTreesRegressor", "RandomForestClassifier", "RandomForestRegressor",
    "IsolationForest",
)  # fmt: skip
BOOSTED = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")


def forest(model: Any) -> Any:
    """A tree or a forest, whose rows scikit-learn reads in single precision: float32 [batch, features] in."""
    if type(model).__name__ == "IsolationForest":
        return isolation(model)
    trees = [e.tree_ for e in np.ravel(getattr(model, "estimators_", [model]))]
    classes, groups = getattr(model, "classes_", None), int(model.n_outputs_)
    if classes is not None:
        groups = len(classes)
        if model.n_outputs_ > 1 or groups < 2:
            raise ExportError(
                f"{type(model).__name__} here answers {model.n_outputs_} questions of {groups} classes"
            )
    made, columns = Nodes(), TreeColumns()
    for number, tree in enumerate(trees):
        add_tree(columns, number, tree, groups, 1.0 / len(trees), is_classifier=classes is not None)
    made.nodes.append(columns.regressor(INPUT, MARGIN, [0.0] * groups))
    return finished(made, model, made.add("Identity", [MARGIN], PREDICTION), groups)


def add_tree(
    columns: TreeColumns, number: int, tree: Any, groups: int, share: float, *, is_classifier: bool
) -> None:  # fmt: skip
    """A tree's nodes, with their own numbers; of a class its share of the leaf counts."""
    values = tree.value.reshape(tree.node_count, groups).astype(np.float64)
    if is_classifier:
        values = values / values.sum(axis=1, keepdims=True)
    at = floor32(tree.threshold)
    for node in range(tree.node_count):
        left = int(tree.children_left[node])
        if left < 0:
            columns.add(number, node, "LEAF")
            for group in range(groups):
                columns.add_weight(number, node, group, float(values[node, group]) * share)
            continue
        columns.add(
            number, node, "BRANCH_LEQ", int(tree.feature[node]), float(at[node]), left,
            int(tree.children_right[node]), int(tree.missing_go_to_left[node]),
        )  # fmt: skip


def boosted(model: Any, dtype: Any) -> Any:
    """Histogram boosting, which compares in double precision: `dtype` [batch, features] in."""
    encoder = getattr(model, "_preprocessor", None)
    order, categories = np.arange(model.n_features_in_), []
    if encoder is not None:
        # It puts the categories first, each as its number in the order of their values.
        is_category = np.asarray(model.is_categorical_)
        order = np.concatenate([np.flatnonzero(is_category), np.flatnonzero(~is_category)])
        categories = encoder.named_transformers_["encoder"].categories_
        check_categories(order, categories, dtype)
    made, columns = Nodes(), TreeColumns()
    groups = int(model.n_trees_per_iteration_)
    for number, predictor in enumerate(p for one in model._predictors for p in one):  # noqa: SLF001
        add_boosted_tree(columns, number, number % groups, predictor, order, categories, dtype)
    base = np.ravel(model._baseline_prediction).tolist()  # noqa: SLF001
    made.nodes.append(columns.regressor(INPUT, MARGIN, base, dtype=dtype))
    if hasattr(model, "classes_"):
        answer = (
            made.add("Sigmoid", [MARGIN], PREDICTION) if groups == 1 else made.add("Softmax", [MARGIN], PREDICTION)
        )
    else:
        link = type(model._loss.link).__name__  # noqa: SLF001
        if link not in {"IdentityLink", "LogLink"}:
            raise ExportError(
                f"{type(model).__name__} has a loss, {model.loss!r}, whose answers are not known here"
            )
        answer = made.add("Identity" if link == "IdentityLink" else "Exp", [MARGIN], PREDICTION)
    return finished(made, model, answer, groups, dtype)


def check_categories(order: Any, categories: Sequence[Any], dtype: Any) -> None:
    """Raise ExportError where two categories are one number in the rows' precision."""
    for column, values in zip(order, categories, strict=False):
        known = np.asarray(values, np.float64)
        if len(np.unique(known.astype(dtype))) < len(known):
            raise ExportError(
                f"categories of column number {int(column) + 1} are one number in float32, such as "
                f"{float(known.max())!r}: number them from 0, or use --precision fp64"
            )


def add_boosted_tree(
    columns: TreeColumns, number: int, group: int, predictor: Any, order: Any, categories: Sequence[Any], dtype: Any
) -> None:
    """A tree's nodes; each has as many numbers as it asks for categories, and the others one."""
    nodes, asked, first, free = predictor.nodes, {}, [], 0
    for k, node in enumerate(nodes):
        first.append(free)
        if node["is_categorical"] and not node["is_leaf"]:
            asked[k] = asked_for(node, predictor.raw_left_cat_bitsets, categories[int(node["feature_idx"])])
        free += max(1, len(asked.get(k, ())))
    for k, node in enumerate(nodes):
        if node["is_leaf"]:
            columns.add_leaf(number, first[k], group, float(node["value"]))
            continue
        feature, to_left = int(order[node["feature_idx"]]), bool(node["missing_go_to_left"])
        left, right = first[node["left"]], first[node["right"]]
        if node["is_categorical"]:
            chain = range(first[k], first[k] + len(asked[k]))
            named, others = (right, left) if to_left else (left, right)
            columns.add_categories(
                number, chain, feature, asked[k], named=named, others=others, missing_is_named=False
            )
            continue
        # To the nearest, as callers round their rows: a split is often a number of the training, which goes left.
        at = float(node["num_threshold"] if dtype == np.float64 else nearest32(node["num_threshold"]))
        columns.add(number, first[k], "BRANCH_LEQ", feature, at, left, right, int(to_left))


def asked_for(node: Any, bitsets: Any, values: Any) -> list[float]:
    """The categories that do not go where a missing one goes; one that was never seen goes there, too."""
    bits = bitsets[int(node["bitset_idx"])]
    to_left = [bool(bits[code // 32] >> (code % 32) & 1) for code in range(len(values))]
    wanted = not node["missing_go_to_left"]
    # Where all go one way, none that can be sent is asked for.
    return [float(v) for v, left in zip(values, to_left, strict=True) if left == wanted and not np.isnan(v)] or [
        float(np.nextafter(np.float32(-np.inf), np.float32(0)))
    ]


def isolation(model: Any) -> Any:
    """IsolationForest, from the mean depth at which its trees leave a row alone: label, 1 or -1, and score."""
    made, columns = Nodes(), TreeColumns()
    for number, (estimator, features) in enumerate(zip(model.estimators_, model.estimators_features_, strict=True)):
        tree = estimator.tree_
        # How long the path to a leaf is, and would be if the leaf were split further: Liu, Ting and Zhou 2008.
        lengths = model._decision_path_lengths[number] + model._average_path_length_per_tree[number] - 1.0  # noqa: SLF001
        at = floor32(tree.threshold)
        for node in range(tree.node_count):
            left = int(tree.children_left[node])
            if left < 0:
                columns.add_leaf(number, node, 0, float(lengths[node]))
                continue
            columns.add(
                number, node, "BRANCH_LEQ", int(features[tree.feature[node]]), float(at[node]), left,
                int(tree.children_right[node]), int(tree.missing_go_to_left[node]),
            )  # fmt: skip
    made.nodes.append(columns.regressor(INPUT, MARGIN, [0.0]))
    most = average_path_length(model._max_samples)  # noqa: SLF001
    made.constant("depths", np.full(1, -1.0 / (len(model.estimators_) * most), np.float32))
    made.constant("two", np.full(1, 2.0, np.float32))
    made.constant("offset", np.full(1, -model.offset_, np.float32))
    made.constant("zero", np.zeros(1, np.float32))
    made.constant("in", np.array([1], np.int64))
    made.constant("out", np.array([-1], np.int64))
    made.add("Mul", [MARGIN, "depths"], "exponents")
    made.add("Pow", ["two", "exponents"], "anomaly")
    made.add("Sub", ["offset", "anomaly"], PREDICTION)
    made.add("Less", [PREDICTION, "zero"], "is_out")
    made.add("Where", ["is_out", "out", "in"], LABEL)
    return made.model("isolation", model.n_features_in_, [LABEL, PREDICTION])


def average_path_length(rows: int) -> float:
    """Of an unsuccessful search in a binary tree of so many rows: equation 1 of Liu, Ting and Zhou 2008."""
    if rows <= 2:
        return float(rows == 2)
    return 2.0 * (float(np.log(rows - 1.0)) + float(np.euler_gamma)) - 2.0 * (rows - 1.0) / rows


def finished(made: Nodes, model: Any, answer: str, groups: int, dtype: Any = np.float32) -> Any:
    """With label and probabilities of a classifier."""
    if not hasattr(model, "classes_"):
        return made.model("trees", model.n_features_in_, [answer], dtype=dtype)
    outputs = made.classified(answer, groups)
    made.named(np.asarray(model.classes_))
    return made.model("trees", model.n_features_in_, outputs, dtype=dtype)

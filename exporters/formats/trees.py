"""Surgery on ONNX's tree ensembles: what converters lose of a forest, and where it splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from exporters.errors import ExportError
from exporters.formats.tensors import Array


def mend_binary_trees(model: Any) -> None:
    """Let a two-class forest say [1 - p, p] and the class of the larger.

    skl2onnx writes the weights of one class only, and ONNX Runtime then answers [-p, p] and a label
    that is true whenever p is positive. Seen with skl2onnx 1.20 and ONNX Runtime 1.26.
    """
    for node in [n for n in model.graph.node if n.op_type == "TreeEnsembleClassifier"]:
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        labels = given.get("classlabels_int64s", [])
        if len(labels) != 2 or len(set(given["class_ids"])) != 1 or given.get("post_transform") != b"NONE":
            continue
        label, scores = node.output
        raw = f"{scores}_raw"
        node.output[0], node.output[1] = f"{label}_raw", raw
        constants: dict[str, Array] = {
            "one": np.array([1.0], np.float32),
            "second": np.array([1], np.int64),
            "classes": np.array(labels, np.int64),
        }
        for name, value in constants.items():
            model.graph.initializer.append(numpy_helper.from_array(value, f"{scores}_{name}"))
        added = [
            helper.make_node("Gather", [raw, f"{scores}_second"], [f"{scores}_p"], axis=1),
            helper.make_node("Sub", [f"{scores}_one", f"{scores}_p"], [f"{scores}_q"]),
            helper.make_node("Concat", [f"{scores}_q", f"{scores}_p"], [scores], axis=1),
            helper.make_node("ArgMax", [scores], [f"{scores}_best"], axis=1, keepdims=0),
            helper.make_node("Gather", [f"{scores}_classes", f"{scores}_best"], [label]),
        ]
        at = list(model.graph.node).index(node) + 1
        for k, new in enumerate(added):
            model.graph.node.insert(at + k, new)


def mend_missing_values(model: Any, trees: Sequence[Any]) -> None:
    """Let scikit-learn's trees send what is missing where they learnt to: skl2onnx sends it right, always.

    A tree that is not found is left as it is, and seen by the comparison with its source. Seen with skl2onnx 1.20.

    Args:
        model: what skl2onnx has made of an estimator.
        trees: each `tree_` of the estimator; the numbers of their nodes are those of the ONNX trees.
    """
    learnt = {_shape_of(tree): tree.missing_go_to_left for tree in trees}
    for node in model.graph.node:
        given = {a.name: a for a in node.attribute}
        if "nodes_missing_value_tracks_true" not in given:
            continue
        columns = {n: np.array(helper.get_attribute_value(a)) for n, a in given.items() if n in _TREE_COLUMNS}
        missing, numbers = given["nodes_missing_value_tracks_true"].ints, columns["nodes_treeids"]
        for number in np.unique(numbers):
            rows = np.flatnonzero(numbers == number)
            rows = rows[np.argsort(columns["nodes_nodeids"][rows])]
            for row, to_left in zip(rows, learnt.get(_shape_in(columns, rows), ()), strict=False):
                missing[row] = int(to_left) if columns["nodes_modes"][row] != b"LEAF" else 0


_TREE_COLUMNS = (
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_truenodeids", "nodes_falsenodeids",
    "nodes_values",
)  # fmt: skip


def _shape_of(tree: Any) -> tuple[bytes, ...]:
    """Of scikit-learn's tree: which nodes split, on which feature, where to, and at which float32."""
    splits = tree.children_left >= 0
    numbers = (splits, *(np.where(splits, c, 0) for c in (tree.feature, tree.children_left, tree.children_right)))
    at = np.where(splits, floor32(tree.threshold), np.float32(0))
    return (*(np.asarray(c, np.int64).tobytes() for c in numbers), at.tobytes())


def _shape_in(columns: Mapping[str, Array], rows: Array) -> tuple[bytes, ...]:
    splits = columns["nodes_modes"][rows] != b"LEAF"
    names = ("nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids")
    numbers = (splits, *(np.where(splits, columns[n][rows], 0) for n in names))
    at = np.where(splits, columns["nodes_values"][rows].astype(np.float32), np.float32(0))
    return (*(np.asarray(c, np.int64).tobytes() for c in numbers), at.tobytes())


def floor32(values: Any) -> Array:
    """The largest float32 that is not more: of a float32 `x <= value` says the same of both."""
    exact = np.asarray(values, np.float64)
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
    return np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)


def floor_thresholds(model: Any, exact: Mapping[int, Iterable[float]]) -> None:
    """Let trees split float32 rows where their source splits them in double precision; converters round to nearest.

    Args:
        model: a converted model.
        exact: by column, where the source splits it.

    Raises:
        ExportError: two splits are so close that it cannot be told which of them a float32 stands for.
    """
    floors: dict[tuple[int, float], set[float]] = {}
    for column, values in exact.items():
        for value in values:
            with np.errstate(over="ignore"):
                near = float(np.float32(value))
            floors.setdefault((column, near), set()).add(float(floor32(value)))
    for node in model.graph.node:
        given = {a.name: a for a in node.attribute}
        if not node.op_type.startswith("TreeEnsemble") or "nodes_values" not in given:
            continue
        values, modes = given["nodes_values"].floats, given["nodes_modes"].strings
        for k, (column, mode) in enumerate(zip(given["nodes_featureids"].ints, modes, strict=True)):
            found = floors.get((column, values[k]), set()) if mode == b"BRANCH_LEQ" else set()
            if len(found) > 1:
                raise ExportError(
                    f"its trees split column {column} at numbers near {values[k]!r} that float32 cannot tell "
                    "from one another: subtract what its values have in common before training"
                )
            if found:
                values[k] = next(iter(found))


def lower_thresholds(model: Any, at: float) -> None:
    """Let what is exactly `at` go right where it is split at `at`."""
    value = float(np.float32(at))
    for attribute in (a for node in model.graph.node for a in node.attribute if a.name == "nodes_values"):
        for k, found in enumerate(attribute.floats):
            if found == value:
                attribute.floats[k] = float(np.nextafter(np.float32(value), np.float32(-np.inf)))


def thresholds(model: Any) -> list[tuple[int, float]]:
    """Columns of the model's one input and the values at which its trees split them, each pair once."""
    names = {i.name for i in model.graph.input}
    for node in model.graph.node:
        # Also where they see it only copied.
        if node.op_type in {"Cast", "Identity"} and node.input[0] in names:
            names.add(node.output[0])
    found: set[tuple[int, float]] = set()
    for node in model.graph.node:
        if not node.op_type.startswith("TreeEnsemble") or node.input[0] not in names:
            continue
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        values = given.get("nodes_values", [])
        rows = zip(given.get("nodes_featureids", []), given.get("nodes_modes", []), values, strict=False)
        by_size = (row for row in rows if row[1] not in {b"LEAF", b"BRANCH_EQ"} and np.isfinite(row[2]))
        found.update((int(feature), float(value)) for feature, _, value in by_size)
    return sorted(found)

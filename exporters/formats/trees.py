"""Where trees split, in their own precision and in float32's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from exporters.errors import ExportError
from exporters.formats.tensors import Array

#: Modes of a node that does not compare; in opset 5 they are numbers.
NOT_BY_SIZE = (b"LEAF", b"BRANCH_EQ", b"BRANCH_NEQ", 4, 5, 6)


def floor32(values: Any) -> Array:
    """The largest float32 that is not more: of a float32 `x <= value` says the same of both."""
    exact = np.asarray(values, np.float64)
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
    return np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)


def nearest32(values: Any) -> Array:
    """The nearest float32, and of two that are as near the lower.

    So callers round their rows; and a split half-way between two numbers of single precision stays between them.
    """
    exact, lower = np.asarray(values, np.float64), floor32(values)
    with np.errstate(over="ignore", invalid="ignore"):
        upper = np.nextafter(lower, np.float32(np.inf))
        is_upper = upper.astype(np.float64) - exact < exact - lower.astype(np.float64)
    return np.where(is_upper, upper, lower)


def check_told_apart(exact: Mapping[int, Iterable[float]]) -> None:
    """Raise ExportError where float32 cannot tell two splits of a column from one another.

    Args:
        exact: by column, where the source splits it in double precision.
    """
    for column, values in sorted(exact.items()):
        ordered = np.array(sorted(set(values)))
        # What is nearer than rounding of the splits themselves stands for one number.
        apart = np.diff(ordered) > 1e-12 * np.abs(ordered[1:])
        same = np.flatnonzero((np.diff(floor32(ordered)) == 0) & apart)
        if len(same):
            one, other = ordered[same[0] : same[0] + 2].tolist()
            raise ExportError(
                f"its trees split column number {column + 1} at {one!r} and at {other!r}, which are one number in "
                "float32: log it with input_example= to see whether that matters, use --precision fp64, or "
                "subtract what its values have in common before training"
            )


def thresholds(model: Any) -> list[tuple[int, float]]:
    """Columns of the model's one input and the values at which its trees split them, each pair once."""
    names = {i.name for i in model.graph.input}
    for node in model.graph.node:
        # Also where they see it only copied, or with some of its numbers replaced.
        if node.op_type in {"Cast", "Identity", "Where"} and not names.isdisjoint(node.input):
            names.add(node.output[0])
    found: set[tuple[int, float]] = set()
    for node in model.graph.node:
        if not node.op_type.startswith("TreeEnsemble") or node.input[0] not in names:
            continue
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        # The operator of opset 5, and those before it with single and with double precision.
        by_name = ("nodes_splits", "nodes_values_as_tensor", "nodes_values")
        values = as_list(next((given[name] for name in by_name if name in given), []))
        modes = as_list(given.get("nodes_modes", []))
        rows = zip(given.get("nodes_featureids", []), modes, values, strict=False)
        by_size = (row for row in rows if row[1] not in NOT_BY_SIZE and np.isfinite(row[2]))
        found.update((int(feature), float(value)) for feature, _, value in by_size)
    return sorted(found)


def as_list(attribute: Any) -> list[Any]:
    """An attribute's numbers, as a tensor or as they are."""
    found: list[Any] = (
        numpy_helper.to_array(attribute).tolist() if isinstance(attribute, TensorProto) else attribute
    )
    return found

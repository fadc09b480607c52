"""Graphs built node by node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from exporters.formats.graph import BATCH
from exporters.formats.tensors import Array

OPSET, ML_OPSET, IR_VERSION = 18, 3, 8
INPUT, MARGIN, PREDICTION = "input", "margin", "prediction"
LABEL, PROBABILITIES = "label", "probabilities"
#: So many times what a tree's leaves differ by is what they have in common, to be added apart.
COMMON = 64.0


class Nodes:
    """A graph that grows; its one input is a table."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """An operator with one output; returns the output's name."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        """A constant; returns its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def pick(self, mask: Array, yes: str, no: str, name: str) -> str:
        """Columns of one table where a mask holds, else of another; returns the new table's name."""
        self.constant(f"{name}_where", mask)
        return self.add("Where", [f"{name}_where", yes, no], name)

    def classified(self, prediction: str, groups: int) -> list[str]:
        """Label and probabilities, of one probability a row or of one a class; returns the tensors' names."""
        if groups > 1:
            self.add("Identity", [prediction], PROBABILITIES)
            self.add("ArgMax", [prediction], LABEL, axis=1, keepdims=0)
            return [LABEL, PROBABILITIES]
        self.constant("one", np.ones(1, np.float32))
        self.constant("half", np.full(1, 0.5, np.float32))
        self.constant("flat", np.array([-1], np.int64))
        self.add("Sub", ["one", prediction], "other")
        self.add("Concat", ["other", prediction], PROBABILITIES, axis=1)
        self.add("Greater", [prediction, "half"], "is_second")
        self.add("Cast", ["is_second"], "second", to=TensorProto.INT64)
        self.add("Reshape", ["second", "flat"], LABEL)
        return [LABEL, PROBABILITIES]

    def named(self, classes: Array) -> None:
        """Let the label say the classes' own numbers, where those do not count from zero."""
        if np.array_equal(classes, np.arange(len(classes))):
            return
        self.nodes = [_renamed(node, LABEL, "number") for node in self.nodes]
        self.constant("classes", classes.astype(np.int64 if classes.dtype.kind in "biuf" else object))
        self.add("Gather", ["classes", "number"], LABEL)

    def model(self, name: str, features: int, outputs: Sequence[str], *, dtype: Any = np.float32) -> Any:
        """The whole, of one input, `dtype` [batch, features]."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(INPUT, kind, [BATCH, features])],
            [
                helper.make_tensor_value_info(n, TensorProto.INT64 if n == LABEL else TensorProto.FLOAT, None)
                for n in outputs
            ],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="ultrathink")


def _renamed(node: Any, old: str, new: str) -> Any:
    outputs = [new if name == old else name for name in node.output]
    del node.output[:]
    node.output.extend(outputs)
    return node


class TreeColumns:
    """ONNX's TreeEnsembleRegressor, node by node."""

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
        self.add_weight(tree, node, group, weight)

    def add_weight(self, tree: int, node: int, group: int, weight: float) -> None:
        """What a leaf adds to a group's margin."""
        for column, cell in zip(self.leaves.values(), (tree, node, group, weight), strict=True):
            column.append(cell)

    def add_categories(
        self, tree: int, chain: Sequence[int], feature: int, categories: Sequence[float], *, named: int,
        others: int, missing_is_named: bool,
    ) -> None:  # fmt: skip
        """What asks for several categories: ONNX knows one comparison a node, so a node each.

        Args:
            tree: its number.
            chain: numbers of the nodes, as many as there are categories.
            feature: the column, of whole numbers.
            categories: those that are named.
            named, others: where those go, and where the others go.
            missing_is_named: whether what is missing goes with them.
        """
        for here, category, after in zip(chain, categories, [*chain[1:], others], strict=True):
            self.add(tree, here, "BRANCH_EQ", feature, float(category), named, after, int(missing_is_named))

    def _centred(self, base: Sequence[float]) -> list[float]:
        """The base, with what each tree's leaves have in common where that is much more than what they differ by.

        Single precision would lose the difference in the sum.
        """
        trees, ids = np.array(self.leaves["treeids"]), np.array(self.leaves["ids"])
        weights, found = np.array(self.leaves["weights"], np.float64), list(base)
        for tree, group in sorted(set(zip(trees.tolist(), ids.tolist(), strict=True))):
            at = (trees == tree) & (ids == group)
            middle = float(weights[at].mean())
            if abs(middle) > COMMON * float(weights[at].std()) > 0.0:
                weights[at] -= middle
                found[group] += middle
        self.leaves["weights"] = weights.tolist()
        return found

    def regressor(self, rows: str, sums: str, base: Sequence[float], *, dtype: Any = np.float32) -> Any:
        """A node that sums the trees.

        Args:
            rows: name of the tensor that the trees read, of `dtype`.
            sums: name of what it makes, float32 [batch, len(base)].
            base: added to each sum.
            dtype: np.float32, or np.float64 for splits and sums in double precision.
        """
        base = self._centred(base)
        given: dict[str, Any] = {f"nodes_{k}": v for k, v in self.nodes.items()} | {
            f"target_{k}": v for k, v in self.leaves.items()
        }
        given["base_values"] = list(base)
        if dtype == np.float64:
            for name in ("nodes_values", "target_weights", "base_values"):
                given[f"{name}_as_tensor"] = numpy_helper.from_array(np.asarray(given.pop(name), dtype), name)
        return helper.make_node(
            "TreeEnsembleRegressor", [rows], [sums], domain="ai.onnx.ml", n_targets=len(base),
            aggregate_function="SUM", post_transform="NONE", **given,
        )  # fmt: skip

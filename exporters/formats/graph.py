"""Surgery on ONNX graphs: names, columns, and two graphs made one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporters.errors import ExportError
from exporters.formats.tensors import Array, dtype_of
from trading.models.signature import ModelSignature, TensorSpec

BATCH = "batch"


def value_info(spec: TensorSpec) -> Any:
    """A tensor with a free batch axis."""
    kind = helper.np_dtype_to_tensor_dtype(dtype_of(spec))
    return helper.make_tensor_value_info(spec.name, kind, [BATCH, *spec.dims])


def rename_input(model: Any, old: str, new: str) -> None:
    """Give an input its served name."""
    if old == new:
        return
    for node in model.graph.node:
        for k, name in enumerate(node.input):
            if name == old:
                node.input[k] = new
    for value in model.graph.input:
        if value.name == old:
            value.name = new


def keep_outputs(model: Any, wanted: Mapping[str, TensorSpec]) -> None:
    """Serve these outputs only, under the specs' names, as [batch, *dims] and of the specs' dtype."""
    del model.graph.output[:]
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    taken |= {t.name for t in (*model.graph.initializer, *model.graph.input)} | {t.name for t in wanted.values()}

    def fresh(name: str) -> str:
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    for old, spec in wanted.items():
        shape, reshaped, inner = fresh(f"{spec.name}_shape"), fresh(f"{spec.name}_reshaped"), old
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1, *spec.dims], np.int64), shape))
        if old == spec.name:
            inner = fresh(f"{old}_inner")
            _rename(model, old, inner)
        model.graph.node.append(helper.make_node("Reshape", [inner, shape], [reshaped]))
        kind = helper.np_dtype_to_tensor_dtype(dtype_of(spec))
        model.graph.node.append(helper.make_node("Cast", [reshaped], [spec.name], to=kind))
        model.graph.output.append(value_info(spec))
    used = {name for node in model.graph.node for name in node.input}
    dead = [n for n in model.graph.node if not (set(n.output) & (used | {s.name for s in wanted.values()}))]
    for node in dead:
        model.graph.node.remove(node)
    if not any(i.domain == "" for i in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", 15))
    for imported in model.opset_import:
        # Converters of trees say 1 where they use none of its operators; Reshape and Cast as written here are of 9.
        if imported.domain == "" and imported.version < 9:
            imported.version = 13


def take_column(model: Any, output: str, column: int) -> None:
    """Leave one column of an output as the only output."""
    index, taken = f"{output}_column", f"{output}_taken"
    model.graph.initializer.append(numpy_helper.from_array(np.array([column], np.int64), index))
    model.graph.node.append(helper.make_node("Gather", [output, index], [taken], axis=1))
    del model.graph.output[:]
    model.graph.output.append(value_info(TensorSpec(taken, (1,))))


def _rename(model: Any, old: str, new: str) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                if name == old:
                    names[k] = new


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


def fuse(name: str, contract: ModelSignature, steps: Sequence[tuple[ModelSignature, Any]]) -> Any:
    """Compose the steps of a pipeline into one graph with the contract's inputs and outputs.

    A step's tensors are joined by name, as the ensemble joins them.

    Args:
        name: of the new graph.
        contract: inputs and outputs of the whole.
        steps: signature and ONNX model of each, in order.
    """
    nodes: list[Any] = []
    initializers: list[Any] = []
    opset, ir_version = 0, 0
    for signature, model in steps:
        prefixed = onnx.compose.add_prefix(model, f"{signature.name}/")
        public = {f"{signature.name}/{t.name}": t.name for t in (*signature.inputs, *signature.outputs)}
        for node in prefixed.graph.node:
            for names in (node.input, node.output):
                for k, found in enumerate(names):
                    names[k] = public.get(found, found)
        nodes.extend(prefixed.graph.node)
        initializers.extend(prefixed.graph.initializer)
        opset = max([opset, *(i.version for i in model.opset_import if i.domain in {"", "ai.onnx"})])
        ir_version = max(ir_version, model.ir_version)
    graph = helper.make_graph(
        nodes,
        name,
        [value_info(t) for t in contract.inputs],
        [value_info(t) for t in contract.outputs],
        initializers,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version, producer_name="ultrathink"
    )


def weights(model: Any) -> dict[str, Any]:
    """Every initialiser and constant by name, as arrays."""
    found = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                found[f"{node.name or node.op_type}.{attribute.name}"] = numpy_helper.to_array(attribute.t)
    return found


def tensors(model: Any) -> Iterator[tuple[str, Any]]:
    """Every tensor that a model holds, with its name: weights, constants, and those of sub-graphs and functions."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_graph(graph: Any) -> Iterator[tuple[str, Any]]:
    yield from ((t.name, t) for t in graph.initializer)
    yield from ((sparse.values.name, sparse.values) for sparse in graph.sparse_initializer)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for node, attribute in ((n, a) for n in nodes for a in n.attribute):
        # A constant is known by what it is the value of.
        name = node.output[0] if node.op_type == "Constant" else f"{node.name or node.op_type}.{attribute.name}"
        yield from [(name, attribute.t)] if attribute.HasField("t") else []
        yield from ((name, t) for t in attribute.tensors)
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        yield from ((name, one.values) for one in (*sparse, *attribute.sparse_tensors))
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _tensors_of_graph(inner)


def all_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    """Nodes with those of their sub-graphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from all_nodes(inner.node)


def is_float(tensor: Any) -> bool:
    """Whether a tensor's elements can be NaN."""
    return tensor.data_type in {
        TensorProto.FLOAT,
        TensorProto.DOUBLE,
        TensorProto.FLOAT16,
        TensorProto.BFLOAT16,
    }


def identity(source: str, target: str) -> bytes:
    """An ONNX file that copies a float32 column."""
    node = helper.make_node("Identity", [source], [target])
    ends = [value_info(TensorSpec(name, (1,))) for name in (source, target)]
    made = helper.make_graph([node], "identity", ends[:1], ends[1:])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content

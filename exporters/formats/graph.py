"""Surgery on ONNX graphs: names, columns, and two graphs made one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporters.errors import ExportError
from exporters.formats.tensors import dtype_of
from trading.models.signature import ModelSignature, TensorSpec

BATCH = "batch"
#: Of ONNX: since then ReduceMax takes its axes as an input, and there is an IsNaN.
AXES_ARE_AN_INPUT, IS_NAN_SINCE = 18, 9


def value_info(spec: TensorSpec) -> Any:
    """A tensor with a free batch axis."""
    kind = helper.np_dtype_to_tensor_dtype(dtype_of(spec))
    return helper.make_tensor_value_info(spec.name, kind, [BATCH, *spec.dims])


def free_single(model: Any) -> bool:
    """Free the batch axis where every tensor's is fixed at one row; returns whether it was.

    Within, whatever was written for one row goes on: it takes no more than one, under a name that a server can read
    as a batch's axis.
    """
    stored = {t.name for t in model.graph.initializer}
    values = [*(i for i in model.graph.input if i.name not in stored), *model.graph.output]
    axes = [v.type.tensor_type.shape.dim[:1] for v in values]
    if not axes or not all(one and one[0].HasField("dim_value") and one[0].dim_value == 1 for one in axes):
        return False
    for one in axes:
        one[0].dim_param = BATCH
    return True


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


def join_inputs(model: Any, specs: Sequence[TensorSpec]) -> None:
    """Let a model of one table take its columns, an input each: the specs', [batch, 1]."""
    table = model.graph.input[0].name
    nodes = [helper.make_node("Concat", [t.name for t in specs], [table], axis=1), *model.graph.node]
    del model.graph.node[:], model.graph.input[:]
    model.graph.node.extend(nodes)
    model.graph.input.extend(value_info(t) for t in specs)


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


def guard_missing(model: Any) -> None:
    """Let a row with a missing number in it be answered with missing numbers, whatever operators make of it."""
    nodes: list[Any] = []
    flags = []
    opset = next((one.version for one in model.opset_import if not one.domain), 0)
    if opset < IS_NAN_SINCE:
        raise ExportError(
            f"its rows with a missing number are answered as if there were none, and opset {opset} has no IsNaN "
            f"to say so: export it with opset {IS_NAN_SINCE} or later"
        )
    for k, value in enumerate(model.graph.input):
        tensor = value.type.tensor_type
        if tensor.elem_type not in FLOATS:
            continue
        axes = f"guard/axes_{k}"
        inner = np.arange(1, len(tensor.shape.dim))
        if opset >= AXES_ARE_AN_INPUT:
            model.graph.initializer.append(numpy_helper.from_array(inner.astype(np.int64), axes))
            reduced = helper.make_node("ReduceMax", [f"guard/as_{k}", axes], [f"guard/row_{k}"], keepdims=0)
        else:
            reduced = helper.make_node(
                "ReduceMax", [f"guard/as_{k}"], [f"guard/row_{k}"], axes=inner.tolist(), keepdims=0
            )
        nodes += [
            helper.make_node("IsNaN", [value.name], [f"guard/is_{k}"]),
            helper.make_node("Cast", [f"guard/is_{k}"], [f"guard/as_{k}"], to=TensorProto.FLOAT),
            reduced,
        ]
        flags.append(f"guard/row_{k}")
    nodes += [
        helper.make_node("Max", flags, ["guard/most"]),
        helper.make_node("Cast", ["guard/most"], ["guard/absent"], to=TensorProto.BOOL),
    ]
    for k, value in enumerate(model.graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type not in FLOATS:
            continue
        kind, raw = helper.tensor_dtype_to_np_dtype(tensor.elem_type), f"guard/raw_{k}"
        shape, nothing = f"guard/shape_{k}", f"guard/nothing_{k}"
        _rename(model, value.name, raw)
        model.graph.initializer.append(numpy_helper.from_array(np.full(1, np.nan, kind), nothing))
        ones = np.array([-1, *[1] * (len(tensor.shape.dim) - 1)], np.int64)
        model.graph.initializer.append(numpy_helper.from_array(ones, shape))
        nodes += [
            helper.make_node("Reshape", ["guard/absent", shape], [f"guard/mask_{k}"]),
            helper.make_node("Where", [f"guard/mask_{k}", nothing, raw], [value.name]),
        ]
    model.graph.node.extend(nodes)


FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}


def _rename(model: Any, old: str, new: str) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                if name == old:
                    names[k] = new


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

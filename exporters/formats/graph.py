"""Surgery on ONNX graphs: names, columns, and two graphs made one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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
    for old, spec in wanted.items():
        shape = f"{spec.name}_shape"
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1, *spec.dims], np.int64), shape))
        inner = old
        if old == spec.name:
            inner = f"{old}_inner"
            _rename(model, old, inner)
        reshaped = f"{spec.name}_reshaped"
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
        # Reshape and Cast as they are written here exist from 13 on.
        if imported.domain == "" and imported.version < 13:
            imported.version = 13


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

"""ONNX files: written from TorchScript, made self-contained, halved, and checked against the target."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx.external_data_helper import load_external_data_for_model, uses_external_data
from onnx.inliner import inline_local_functions

from exporters.errors import ExportError, brief
from exporters.formats import graph
from exporters.formats.tensors import example, triton_name
from exporters.profiles import Container
from trading.models.signature import ModelSignature, TensorSpec

# torch takes longer to import than an ONNX file takes to export.
if TYPE_CHECKING:
    import torch

OPSET = 18
MAX_BYTES = 2**31 - 1
#: What ONNX's operators for machine learning keep of a training, beside tensors.
LEARNT = frozenset(
    {
        "target_weights", "class_weights", "base_values", "coefficients", "intercepts", "support_vectors",
        "kernel_params", "rho", "prob_a", "prob_b", "vectors_per_class",
    }
)  # fmt: skip
#: A tree may well split at an infinity, and NaN stands between its sets of members.
MEANT = ("nodes_values_as_tensor", "nodes_splits", "membership_values")
#: Kept in float32 when weights are halved, because features may exceed float16's 65,504.
HALVED_OPERATORS = frozenset({"MatMul", "Gemm", "Conv", "LSTM", "GRU", "Attention"})


def write(
    module: torch.jit.ScriptModule,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    path: Path,
) -> None:
    """Write TorchScript as ONNX with a dynamic batch axis and all weights inside.

    Raises:
        ExportError: an operator has no ONNX form at this opset.
    """
    import torch

    asked = tuple(torch.from_numpy(a) for a in example(inputs))
    names, out_names = [t.name for t in inputs], [t.name for t in outputs]
    with warnings.catch_warnings():
        # The TorchScript-based exporter is the one that takes TorchScript; torch announces its end.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module,
                asked,
                os.fspath(path),
                input_names=names,
                output_names=out_names,
                dynamic_axes={name: {0: graph.BATCH} for name in (*names, *out_names)},
                opset_version=OPSET,
                dynamo=False,
                external_data=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            said = brief(error)
            raise ExportError(f"it has no ONNX form at opset {OPSET}: {said}; try --format torchscript") from error


def load(path: Path) -> Any:
    """Read a model with its external data, which must lie beside it, and its own functions where they are called.

    Raises:
        ExportError: not ONNX, over 2 GB, or external data that is missing or outside its folder.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise ExportError(f"{path.name} is no ONNX model: {str(error)[:200]}") from error
    if not model.graph.node:
        raise ExportError(f"{path.name} is no ONNX model: it holds no operator")
    if model.functions:
        model = inline_local_functions(model)
    size = path.stat().st_size + sum(external_file(t, path).stat().st_size for t in external(model))
    if size > MAX_BYTES:
        raise ExportError(
            f"{path.name} has {size / 2**30:.1f} GiB with its weights; ONNX and Triton's load request end at "
            "2 GiB: try --precision fp16, or a smaller model"
        )
    load_external_data_for_model(model, os.fspath(path.parent))
    return model


def has_functions(path: Path) -> bool:
    """Whether a model has functions of its own."""
    return bool(onnx.load(path, load_external_data=False).functions)


def parse(content: bytes) -> Any:
    """A model that was written whole."""
    return onnx.load_model_from_string(content)


def external(model: Any) -> list[Any]:
    """Tensors whose bytes lie in other files, wherever in the model they are."""
    return [t for _, t in graph.tensors(model) if uses_external_data(t)]


def external_file(tensor: Any, path: Path) -> Path:
    """Where a tensor's bytes lie. Raises ExportError when that is nowhere, or outside the model's folder."""
    location = next((e.value for e in tensor.external_data if e.key == "location"), "")
    found = path.parent / location
    inside = found.resolve().is_relative_to(path.parent.resolve())
    if not location or not inside or found.is_symlink():
        raise ExportError(
            f"{path.name}: weight {tensor.name} lies in {location!r}, outside the model's folder: refused"
        )
    if not found.is_file():
        raise ExportError(f"{path.name}: weight {tensor.name} lies in {location!r}, which is missing: log it again")
    return found


def save(model: Any, path: Path) -> None:
    """Write one self-contained file."""
    onnx.save_model(model, os.fspath(path), save_as_external_data=False)


def halve(model: Any, outputs: tuple[TensorSpec, ...]) -> Any:
    """Matrix products in float16; float32 wherever features may be large, and the outputs in their own dtypes.

    Raises:
        ExportError: there is no matrix product to halve.
    """
    from onnxconverter_common import float16

    if not any(node.op_type in HALVED_OPERATORS for node in model.graph.node):
        raise ExportError("it has no matrix product, so float16 would change nothing: use --precision fp32")
    # By their names: of operators that are kept by type the converter also keeps, and follows, the casts that it
    # adds itself, without end where the model has a Cast of its own.
    for number, node in enumerate(model.graph.node):
        node.name = f"kept/{number}"
    others = [node.name for node in model.graph.node if node.op_type not in HALVED_OPERATORS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        halved = float16.convert_float_to_float16(
            model, keep_io_types=True, op_block_list=[], node_block_list=others
        )
    # Where the last operator is one that was left in float32, the converter declares a float16 output.
    graph.keep_outputs(halved, {t.name: t for t in outputs})
    return halved


def check(path: Path, signature: ModelSignature, container: Container) -> None:
    """Raise ExportError for what the target would refuse or answer wrongly."""
    name, model = signature.name, load(path)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"{name}: the ONNX model is invalid: {str(error)[:300]}") from error
    check_versions(name, model, container)
    check_weights(name, model)
    check_tensors(signature, model)


def check_versions(name: str, model: Any, container: Container) -> None:
    """IR and opsets within what the container's ONNX Runtime reads."""
    limits = {
        "": container.max_onnx_opset,
        "ai.onnx": container.max_onnx_opset,
        "ai.onnx.ml": container.max_onnx_ml_opset,
    }
    if model.ir_version > container.max_onnx_ir:
        raise ExportError(
            f"{name}: ONNX IR {model.ir_version}; ONNX Runtime {container.onnxruntime} in Triton {container.name} "
            f"reads IR up to {container.max_onnx_ir}: write it with an older onnx package"
        )
    for imported in model.opset_import:
        if imported.version > limits.get(imported.domain, imported.version):
            raise ExportError(
                f"{name}: opset {imported.domain or 'ai.onnx'} {imported.version}; ONNX Runtime "
                f"{container.onnxruntime} in Triton {container.name} reads up to {limits[imported.domain]}: "
                "convert it with a lower target opset"
            )
        if imported.domain not in {*limits, "com.microsoft"} and any(
            n.domain == imported.domain for n in model.graph.node
        ):
            raise ExportError(f"{name}: operators of {imported.domain!r} are not in Triton {container.name}")


def check_weights(name: str, model: Any) -> None:
    """No weight is NaN; infinities only as a constant feature's deviation, which divides it away.

    What is one value beside them is no weight but a mask, or a sentinel: that is judged by the answers.
    """
    nodes = list(graph.all_nodes(model.graph.node))
    divisors = {n.input[1] for n in nodes if n.op_type == "Div"}
    for weight, tensor in graph.tensors(model):
        if not graph.is_float(tensor) or weight.endswith(MEANT):
            continue
        values = onnx.numpy_helper.to_array(tensor)
        finite = np.isfinite(values)
        if finite.all() or len(np.unique(values[finite])) <= 1:
            continue
        if np.isnan(values).any():
            raise ExportError(f"{name}: weight {weight} holds NaN: train it again")
        if weight not in divisors:
            raise ExportError(f"{name}: weight {weight} holds an infinity: train it again")
    for node, attribute in ((n, a) for n in nodes for a in n.attribute):
        if attribute.name in LEARNT and not np.isfinite(attribute.floats).all():
            raise ExportError(f"{name}: {attribute.name} of {node.op_type} are not all finite: train it again")


def check_tensors(signature: ModelSignature, model: Any) -> None:
    """Names, dtypes and dims are the signature's, and the batch axis is free."""
    stored = {t.name for t in model.graph.initializer}
    sides = {
        "inputs": ([i for i in model.graph.input if i.name not in stored], signature.inputs),
        "outputs": (list(model.graph.output), signature.outputs),
    }
    for side, (found, specs) in sides.items():
        check_names(found)
        described = [describe(v) for v in found]
        wanted = {t.name: t for t in specs}
        if {t.name for t in described} != set(wanted) or not all(agrees(t, wanted[t.name]) for t in described):
            raise ExportError(
                f"{signature.name}: {side} of the file are {text(described)}, the signature says {text(specs)}"
            )


def check_names(values: Any) -> None:
    """Raise ExportError for tensors that share a name, or whose name nobody can write."""
    # Protobuf gives the bytes of what is no UTF-8.
    names = [value.name for value in values]
    for name in names:
        if not isinstance(name, str):
            raise ExportError(f"a tensor's name is no text ({name!r}): export it with names in UTF-8")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExportError(f"{len(values)} tensors share the name {twice[0]!r}: export it with a name for each")


def agrees(found: TensorSpec, wanted: TensorSpec) -> bool:
    """Whether a file's tensor can be the signature's; an open dim is seen by the parity check."""
    return (
        found.dtype == wanted.dtype
        and len(found.dims) == len(wanted.dims)
        and all(a in {-1, b} for a, b in zip(found.dims, wanted.dims, strict=True))
    )


def describe(value: Any) -> TensorSpec:
    """A graph's tensor without its batch axis; an unknown dim is -1. Raises ExportError for what is no batch."""
    name, kind = value.name, value.type.WhichOneof("value")
    if kind in {"sequence_type", "map_type"}:
        raise ExportError(
            f"{name} is a {kind.removesuffix('_type')}, and only tensors can be served: where it is a classifier's "
            'probabilities, convert it again with options={"zipmap": False}'
        )
    if kind != "tensor_type":
        raise ExportError(f"{name} has no tensor type")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise ExportError(
            f"{name} has no shape, and none can be inferred: export it with one whose first axis is free"
        )
    axes = tensor.shape.dim
    if not axes:
        raise ExportError(f"{name} is a scalar: a row's answer needs a first axis, of the batch")
    # Some write an open axis as -1.
    if axes[0].HasField("dim_value") and axes[0].dim_value >= 0:
        raise ExportError(
            f"the batch axis of {name} is fixed at {axes[0].dim_value}: export it with a dynamic first axis"
        )
    try:
        dtype = triton_name(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), name)
    except KeyError as error:
        raise ExportError(f"{name} has no tensor type") from error
    return TensorSpec(
        name, tuple(max(d.dim_value, -1) if d.HasField("dim_value") else -1 for d in list(axes)[1:]), dtype
    )


def signature_of(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs as the file itself declares them, or as they can be inferred from it."""
    model = load(path)
    if not all(has_shape(v) for v in model.graph.output):
        model = onnx.shape_inference.infer_shapes(model)
    stored = {t.name for t in model.graph.initializer}
    for values in (model.graph.input, model.graph.output):
        check_names(values)
    inputs = tuple(describe(v) for v in model.graph.input if v.name not in stored)
    return inputs, tuple(describe(v) for v in model.graph.output)


def has_shape(value: Any) -> bool:
    """Whether a tensor's rank is declared."""
    return value.type.WhichOneof("value") != "tensor_type" or value.type.tensor_type.HasField("shape")


def text(specs: Any) -> str:
    """For messages."""
    return ", ".join(f"{t.name} {t.dtype} {list(t.dims)}" for t in specs)

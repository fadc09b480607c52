"""TorchScript to ONNX, within what the target container can read."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch

from exporters.errors import ExportError
from exporters.profiles import Profile
from exporters.registry import SourceModel

OPSET = 18


def export(source: SourceModel, path: Path, profile: Profile) -> None:
    """Write a checked ONNX file with a dynamic batch axis and all weights inside.

    Raises:
        ExportError: the file's IR or opset is newer than the target reads, or its batch axis is fixed.
    """
    signature = source.signature
    inputs, outputs = [t.name for t in signature.inputs], [t.name for t in signature.outputs]
    # A batch of one could be folded into the graph as a constant.
    example = tuple(torch.randn(3, *t.dims) for t in signature.inputs)
    with warnings.catch_warnings():
        # The TorchScript-based exporter is the one that takes TorchScript; torch announces its end.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        torch.onnx.export(
            source.module,
            example,
            str(path),
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)},
            opset_version=OPSET,
            dynamo=False,
            external_data=False,
        )
    check(path, source, profile)


def check(path: Path, source: SourceModel, profile: Profile) -> None:
    """Raise ExportError for what the target would refuse."""
    name = source.signature.name
    model = onnx.load(path)
    onnx.checker.check_model(model)
    opset = max(i.version for i in model.opset_import if i.domain in {"", "ai.onnx"})
    if model.ir_version > profile.max_onnx_ir or opset > profile.max_onnx_opset:
        raise ExportError(
            f"{name}: ONNX IR {model.ir_version}, opset {opset}; Triton {profile.name} reads IR up to "
            f"{profile.max_onnx_ir}, opset up to {profile.max_onnx_opset}"
        )
    for tensor in (*model.graph.input, *model.graph.output):
        batch = tensor.type.tensor_type.shape.dim[0]
        if not batch.dim_param:
            raise ExportError(f"{name}: the batch axis of {tensor.name} is fixed at {batch.dim_value}")

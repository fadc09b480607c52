"""Models asked in this process, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime

from exporters.errors import ExportError, brief
from exporters.formats import torchscript
from exporters.formats.tensors import Arrays, Run
from trading.models.signature import ModelSignature

if TYPE_CHECKING:
    import torch


def run_module(module: torch.jit.ScriptModule) -> Run:
    """TorchScript in this process, on the CPU; it is given copies, since it may write into what it is given."""
    import torch

    def run(arrays: Arrays) -> Arrays:
        with torch.inference_mode():
            out = module(*map(torch.tensor, arrays))
        return [t.numpy() for t in ([out] if isinstance(out, torch.Tensor) else out)]

    return run


def run_onnx(model: Path | bytes, inputs: list[str], outputs: list[str]) -> Run:
    """An ONNX file in this process, on the CPU. Raises ExportError when ONNX Runtime refuses it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # As config.pbtxt says for Triton: basic and extended optimisations.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    given, name = (model, "the model") if isinstance(model, bytes) else (str(model), model.name)
    try:
        session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"ONNX Runtime refuses {name}: {brief(error)}") from error
    return lambda arrays: list(session.run(outputs, dict(zip(inputs, arrays, strict=True))))


def run_file(signature: ModelSignature, path: Path) -> Run:
    """An exported file in this process."""
    if path.suffix == ".pt":
        return run_module(torchscript.load(path, signature.name))
    return run_onnx(path, [t.name for t in signature.inputs], [t.name for t in signature.outputs])

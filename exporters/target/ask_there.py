"""Run by another Python, with another ONNX Runtime or torch: asks a file, and needs nothing of this package.

Arguments: the file, rows (.npz, arrays in the inputs' order), where the answers go (.npz), and the tensors' names
as JSON, {"inputs": [...], "outputs": [...]}.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np


def main(path: str, rows: str, out: str, names: str) -> None:
    """Write the answers."""
    with np.load(rows, allow_pickle=False) as stored:
        arrays = [stored[f"arr_{k}"] for k in range(len(stored.files))]
    ask = torchscript if path.endswith(".pt") else onnx
    np.savez(out, *ask(path, arrays, json.loads(names)))


def onnx(path: str, arrays: list[Any], names: dict[str, list[str]]) -> list[Any]:
    """As Triton's ONNX Runtime backend is configured: basic and extended optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return list(session.run(names["outputs"], dict(zip(names["inputs"], arrays, strict=True))))


def torchscript(path: str, arrays: list[Any], _: dict[str, list[str]]) -> list[Any]:
    """As libtorch does."""
    import torch

    module = torch.jit.load(path, map_location="cpu").eval()
    with torch.inference_mode():
        out = module(*map(torch.tensor, arrays))
    return [t.numpy() for t in ([out] if isinstance(out, torch.Tensor) else out)]


if __name__ == "__main__":
    main(*sys.argv[1:])

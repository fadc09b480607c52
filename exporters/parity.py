"""Do the source, the exported file and the served model give the same answers?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from exporters.errors import ParityError
from gateway.domain.features import FEATURES, FeatureEngine
from gateway.domain.schemas import Float32Array, TickBatch
from gateway.domain.signature import ModelSignature
from gateway.history import open_source

#: float32 through other kernels and other orders of summation.
TOLERANCE = 1e-5

Outputs = list[Float32Array]
Run = Callable[[Outputs], Outputs]


def probe_rows(count: int) -> Float32Array:
    """float32 [count, 32]: rows of the real kernel on a simulated market, and extreme ones."""
    records = islice(open_source(f"simulate:regimes?seed=11&ticks={count}").records(), count)
    rows = FeatureEngine().update(TickBatch.from_ticks([r.tick for r in records])).values
    width = len(FEATURES)
    extremes = np.array([[0.0], [1e-38], [-1e3], [1e6]], np.float32) * np.ones(width, np.float32)
    rows[: min(count, 4)] = extremes[: min(count, 4)]
    return rows


def inputs_for(signature: ModelSignature, batch: int) -> Outputs:
    """One array an input, with values that the input can have."""
    random = np.random.default_rng(batch)
    arrays: Outputs = []
    for spec in signature.inputs:
        if spec.name == "features":
            arrays.append(probe_rows(batch))
        elif spec.name == "regime_probabilities":
            arrays.append(random.dirichlet(np.ones(spec.dims[0]), batch).astype(np.float32))
        else:
            arrays.append(random.uniform(-1, 1, (batch, *spec.dims)).astype(np.float32))
    return arrays


def run_module(module: torch.jit.ScriptModule) -> Run:
    """The source model."""

    def run(arrays: Outputs) -> Outputs:
        with torch.inference_mode():
            out = module(*(torch.from_numpy(a) for a in arrays))
        return [t.numpy() for t in ([out] if isinstance(out, torch.Tensor) else out)]

    return run


def run_onnx(path: Path) -> Run:
    """The exported file, in this process, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return lambda arrays: list(session.run(None, dict(zip(names, arrays, strict=True))))


def run_torchscript(path: Path) -> Run:
    """The exported TorchScript file, in this process, on the CPU."""
    return run_module(torch.jit.load(str(path), map_location="cpu"))


def run_pipeline(modules: Mapping[str, torch.jit.ScriptModule]) -> Run:
    """The ensemble, composed of its source models."""

    def run(arrays: Outputs) -> Outputs:
        (regimes,) = run_module(modules["regime_detection"])(arrays)
        (signals,) = run_module(modules["strategy_signals"])(arrays)
        weights, target = run_module(modules["meta_controller"])([arrays[0], regimes, signals])
        return [regimes, signals, weights, target]

    return run


def max_abs_difference(signature: ModelSignature, source: Run, other: Run, where: str) -> float:
    """The largest difference over all outputs, at batch 1, 2 and the largest.

    Raises:
        ParityError: it is above TOLERANCE, an output is not finite, or has another shape.
    """
    worst = 0.0
    for batch in (1, 2, signature.max_batch_size):
        arrays = inputs_for(signature, batch)
        for spec, wanted, got in zip(signature.outputs, source(arrays), other(arrays), strict=True):
            shape = (batch, *spec.dims)
            if wanted.shape != shape or got.shape != shape:
                raise ParityError(
                    f"{signature.name}: {spec.name} has shape {got.shape} {where} and {wanted.shape} at its "
                    f"source; the signature says {shape}"
                )
            difference = float(np.abs(got.astype(np.float64) - wanted).max())
            if not difference <= TOLERANCE:
                raise ParityError(
                    f"{signature.name}: {spec.name} differs by {difference:.3g} {where} at batch {batch}; "
                    f"{TOLERANCE:.0e} is allowed"
                )
            worst = max(worst, difference)
    return worst

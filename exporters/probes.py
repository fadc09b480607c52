"""Rows to ask a model with: golden, adversarial, recorded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from exporters.errors import ExportError
from exporters.formats.tensors import Array, Arrays, dtype_of
from trading.features.definitions import FEATURES
from trading.features.engine import FeatureEngine
from trading.history import open_source
from trading.market import TickBatch
from trading.models.signature import FEATURES_TENSOR, ModelSignature, TensorSpec

#: What recorded rows come from where no SOURCE is named.
SIMULATED = "simulate:regimes?seed=11&symbols=4"
#: float32's smallest subnormal, a subnormal, and the largest that features may take.
DENORMALS = (1e-45, 1e-40)
EXTREMES = (1e-6, 1.0, 1e3, 1e6)


def golden(signature: ModelSignature, rows: int, example: Arrays | None = None) -> Arrays:
    """Rows that the model may well see: the kernel's on a simulated market, the logged example, or normal ones."""
    random = np.random.default_rng(7)
    return [
        _golden(spec, rows, random, None if example is None else example[k])
        for k, spec in enumerate(signature.inputs)
    ]


def _golden(spec: TensorSpec, rows: int, random: np.random.Generator, example: Array | None) -> Array:
    if spec == FEATURES_TENSOR:
        return recorded_features(SIMULATED, rows)
    if spec.name == "regime_probabilities":
        return random.dirichlet(np.ones(spec.dims[0]), rows).astype(dtype_of(spec))
    if spec.name == "strategy_signals":
        return random.uniform(-1, 1, (rows, *spec.dims)).astype(dtype_of(spec))
    if example is not None and len(example) > 1 and spec.dtype.startswith("FP"):
        # Between and around the logged rows, so that a forest's every split is met.
        picked = random.integers(0, len(example), (rows, *spec.dims))
        mixed = np.take_along_axis(example, picked.reshape(rows, *spec.dims), axis=0)
        return (mixed + random.normal(0, 0.1, mixed.shape) * example.std(axis=0)).astype(dtype_of(spec))
    if not spec.dtype.startswith("FP"):
        return random.integers(0, 2 if spec.dtype == "BOOL" else 10, (rows, *spec.dims)).astype(dtype_of(spec))
    return random.normal(0, 2, (rows, *spec.dims)).astype(dtype_of(spec))


def adversarial(signature: ModelSignature, rows: int) -> Arrays:
    """Zeros, denormals, large and tiny values of either sign, one at a time and all at once."""
    return [_adversarial(spec, rows) for spec in signature.inputs]


def _adversarial(spec: TensorSpec, rows: int) -> Array:
    if not spec.dtype.startswith("FP"):
        limit = 1 if spec.dtype == "BOOL" else 100
        return (
            (np.arange(rows * int(np.prod(spec.dims))) % (limit + 1))
            .reshape(rows, *spec.dims)
            .astype(dtype_of(spec))
        )
    if spec.name == "regime_probabilities":
        corners = np.eye(spec.dims[0])
        return corners[np.arange(rows) % len(corners)].astype(dtype_of(spec))
    values = [1.0] if spec.name == "strategy_signals" else [*DENORMALS, *EXTREMES]
    if spec.dtype == "FP16":
        values = [v for v in values if v < 6e4]
    made = np.array(list(itertools.islice(itertools.cycle(_patterns(spec, values)), rows)))
    return made.reshape(rows, *spec.dims).astype(dtype_of(spec))


def _patterns(spec: TensorSpec, values: list[float]) -> list[Any]:
    width = int(np.prod(spec.dims))
    found: list[Any] = [np.zeros(width), -np.zeros(width)]
    for value in values:
        found += [np.full(width, value), np.full(width, -value), value * (-1.0) ** np.arange(width)]
        alone = np.zeros(width)
        alone[0] = value
        found.append(alone)
    return found


def recorded(signature: ModelSignature, rows: int, source: str | None) -> Arrays | None:
    """Rows of a recorded market, for models that read the feature kernel's; None for others."""
    if FEATURES_TENSOR not in signature.inputs:
        return None
    arrays = golden(signature, rows)
    arrays[signature.inputs.index(FEATURES_TENSOR)] = recorded_features(source or SIMULATED, rows, skip=512)
    return arrays


def recorded_features(source: str, rows: int, skip: int = 64) -> Array:
    """float32 [rows, 32] of the gateway's own kernel; without the first `skip`, whose windows are empty.

    A source that is too short is gone through again from its first row.
    """
    wanted = rows + skip
    found = [r.tick for r in itertools.islice(_records(source, wanted), wanted)]
    if not found:
        raise ExportError(f"{source} holds no tick")
    features = FeatureEngine().update(TickBatch.from_ticks(found)).values
    usable = features[skip:] if len(features) > skip else features
    return np.resize(usable, (rows, len(FEATURES))).astype(np.float32)


def _records(source: str, count: int) -> Iterator[Any]:
    if source.startswith("simulate:") and "ticks=" not in source:
        source = f"{source}{'&' if '?' in source else '?'}ticks={count}"
    return open_source(source).records()


def from_file(signature: ModelSignature, path: Path) -> Arrays:
    """Rows of the user's own: .npy for one input, .npz with an array an input.

    Raises:
        ExportError: not such a file, or its arrays do not fit the signature.
    """
    try:
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            arrays = [stored] if isinstance(stored, np.ndarray) else [stored[t.name] for t in signature.inputs]
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(
            f"{path} cannot be read as rows: {error}; give .npy, or .npz with {[t.name for t in signature.inputs]}"
        ) from error
    if len(arrays) != len(signature.inputs):
        raise ExportError(f"{path} holds {len(arrays)} arrays; the model takes {len(signature.inputs)}")
    for spec, array in zip(signature.inputs, arrays, strict=True):
        if array.shape[1:] != spec.dims or not len(array):
            raise ExportError(f"{path}: {spec.name} has shape {list(array.shape)}, expected [rows, {spec.dims}]")
    return [a.astype(dtype_of(t)) for a, t in zip(arrays, signature.inputs, strict=True)]


def first_rows(arrays: Arrays, rows: int) -> Arrays:
    """The first rows; a shorter set is repeated."""
    return [np.resize(a, (rows, *a.shape[1:])) for a in arrays]

"""Rows to ask a model with: golden, adversarial, recorded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from exporters.errors import ExportError
from exporters.formats.tensors import Array, Arrays, dtype_of
from exporters.rows import fit, in_order, read_rows
from trading.features.definitions import FEATURES
from trading.features.engine import FeatureEngine
from trading.history import open_source
from trading.market import TickBatch
from trading.models.signature import FEATURES_TENSOR, ModelSignature, TensorSpec

#: How many of each kind a version keeps, to be asked by a release.
GOLDEN_ROWS, ADVERSARIAL_ROWS, SPECIAL_ROWS = 64, 32, 64
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
    if example is not None and len(example):
        # Between and around the logged rows, so that a forest's every split is met.
        picked = random.integers(0, len(example), (rows, *spec.dims))
        mixed = np.take_along_axis(example, picked, axis=0)
        if spec.dtype.startswith("FP"):
            moved = mixed + 0.1 * random.normal(size=mixed.shape) * spread(example)
            # Prices and counts are never negative.
            with np.errstate(invalid="ignore"):
                mixed = np.where((example >= 0).all(axis=0), np.abs(moved), moved)
        # And every second one as it was logged: values that meet a bin's edge or lie equally far from two others.
        kept = min(len(example), rows // 2)
        mixed[1 : 2 * kept : 2] = example[np.linspace(0, len(example) - 1, kept).astype(int)]
        return mixed.astype(dtype_of(spec))
    if not spec.dtype.startswith("FP"):
        # Whatever is counted or chosen from, there are two of it.
        return random.integers(0, 2, (rows, *spec.dims)).astype(dtype_of(spec))
    return random.normal(0, 2, (rows, *spec.dims)).astype(dtype_of(spec))


def spread(example: Array) -> Array:
    """How far a value may be moved and still be one of its column's: float64 [*dims].

    Not at all where the logged values are different whole numbers: they may be categories, with none between two.
    """
    known = np.nan_to_num(example.astype(np.float64), posinf=0.0, neginf=0.0)
    values = known.std(axis=0)
    # Of one row, or where all are alike, nothing is known of that.
    alone = np.maximum(np.abs(known).max(axis=0), 1.0)
    return np.where(is_whole(example), 0.0, np.where(values > 0.0, values, alone))


def is_whole(example: Array) -> Array:
    """Which columns hold several values, and whole numbers only: bool [*dims]."""
    with np.errstate(invalid="ignore"):
        whole = (np.isnan(example) | (np.rint(example) == example)).all(axis=0)
    known = np.nan_to_num(example.astype(np.float64))
    return np.asarray(whole & (np.ptp(known, axis=0) > 0))


def adversarial(signature: ModelSignature, rows: int, example: Arrays | None = None) -> Arrays:
    """Zeros, denormals, large and tiny values of either sign, one at a time and all at once.

    Where the logged values are whole numbers, or the tensor can hold no others: those there are, and one more.
    """
    return [
        _adversarial(spec, rows, None if example is None or not len(example[k]) else example[k])
        for k, spec in enumerate(signature.inputs)
    ]


def _adversarial(spec: TensorSpec, rows: int, example: Array | None) -> Array:
    if not spec.dtype.startswith("FP"):
        if example is not None:
            # In order, each as often as another: a number that was not logged may be no index.
            return np.resize(np.sort(example, axis=0), (rows, *spec.dims)).astype(dtype_of(spec))
        return (np.arange(rows * int(np.prod(spec.dims))) % 2).reshape(rows, *spec.dims).astype(dtype_of(spec))
    if spec.name == "regime_probabilities":
        corners = np.eye(spec.dims[0])
        return corners[np.arange(rows) % len(corners)].astype(dtype_of(spec))
    values = [1.0] if spec.name == "strategy_signals" else [*DENORMALS, *EXTREMES]
    if spec.dtype == "FP16":
        values = [v for v in values if v < 6e4]
    made = np.array(list(itertools.islice(itertools.cycle(_patterns(spec, values)), rows)))
    made = made.reshape(rows, *spec.dims)
    if example is not None and (whole := is_whole(example)).any():
        filled = np.nan_to_num(example.astype(np.float64))
        near = np.clip(np.rint(made), filled.min(axis=0), filled.max(axis=0) + 1)
        made = np.where(whole, near, made)
    return made.astype(dtype_of(spec))


def _patterns(spec: TensorSpec, values: list[float]) -> list[Any]:
    width = int(np.prod(spec.dims))
    found: list[Any] = [np.zeros(width), -np.zeros(width)]
    for value in values:
        found += [np.full(width, value), np.full(width, -value), value * (-1.0) ** np.arange(width)]
        alone = np.zeros(width)
        alone[0] = value
        found.append(alone)
    return found


def missing(rows: Arrays) -> Arrays:
    """The rows with NaN in them: in each column alone, in all of them, and here and there."""
    random = np.random.default_rng(17)
    return [_missing(a, random) for a in rows]


def _missing(array: Array, random: np.random.Generator) -> Array:
    if array.dtype.kind != "f" or not array.size:
        return array
    flat = array.reshape(len(array), -1).copy()
    width = flat.shape[1]
    absent = random.random(flat.shape) < 0.2
    alone = np.arange(0, len(flat), 4)
    absent[alone] = False
    absent[alone, (alone // 4) % width] = True
    absent[1:2] = True
    flat[absent] = np.nan
    return flat.reshape(array.shape)


def infinite(rows: Arrays) -> Arrays:
    """The rows with an infinity, of either sign, in each column alone."""
    found = []
    for array in rows:
        if array.dtype.kind != "f" or not array.size:
            found.append(array)
            continue
        flat = array.reshape(len(array), -1).copy()
        places = np.arange(len(flat))
        flat[places, (places // 2) % flat.shape[1]] = np.where(places % 2, np.inf, -np.inf)
        found.append(flat.reshape(array.shape))
    return found


def at_thresholds(row: Array, splits: list[tuple[int, float]]) -> Array:
    """Rows like `row`, float [columns]: for each split its value, and the next number on either side."""
    values = np.array([value for _, value in splits]).astype(row.dtype)
    # Beyond the largest number lies infinity.
    with np.errstate(over="ignore"):
        around = np.column_stack([
            np.nextafter(values, row.dtype.type(-np.inf)), values, np.nextafter(values, row.dtype.type(np.inf)),
        ])  # fmt: skip
    made = np.tile(row, (3 * len(splits), 1))
    made[np.arange(len(made)), np.repeat([column for column, _ in splits], 3)] = around.ravel()
    return made


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


def from_file(signature: ModelSignature, path: Path, columns: tuple[str, ...] = ()) -> Arrays:
    """Rows of the user's own: an array an input, or a table, put into the order of the model's `columns`.

    Raises:
        ExportError: not such a file, or its arrays do not fit the signature.
    """
    return fit(in_order(read_rows(path), columns), signature.inputs)


def least_golden(largest: int) -> int:
    """How many of a version's golden rows are golden at least, whatever special ones came after them."""
    return max(1, min(GOLDEN_ROWS, GOLDEN_ROWS * largest // (GOLDEN_ROWS + ADVERSARIAL_ROWS + 2 * SPECIAL_ROWS)))


def first_rows(arrays: Arrays, rows: int) -> Arrays:
    """The first rows; a shorter set is repeated."""
    return [np.resize(a, (rows, *a.shape[1:])) for a in arrays]


def spread_out(arrays: Arrays, rows: int) -> Arrays:
    """So many rows at equal distances; a shorter set is repeated."""
    places = np.linspace(0, len(arrays[0]) - 1, rows).astype(int)
    return [a[places] for a in arrays]

"""Rows for whatever is asked: of a file, the gateway's own features, or made up as the model's inputs are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np
from msgspec import Struct

from connectors.triton.asking import Array, ServedModel, ServedTensor, fitted
from loadtest.errors import InvalidRun
from trading.arrays import Float32Array
from trading.errors import ConfigurationError
from trading.features.engine import FeatureEngine
from trading.history import open_source
from trading.market import TickBatch
from trading.models.rows import arranged, read_rows
from trading.models.signature import FEATURES_TENSOR

ROWS = 1024
#: Rows of a model of which nothing is known but its inputs, and how much memory they may take, all of them and one.
MADE_UP, MOST_BYTES, MOST_ROW_BYTES = 256, 2**26, 2**30
#: Ticks that only warm the kernel's windows.
WARMING = 2048
DEFAULT_SOURCE = "simulate:regimes?ticks=8000&symbols=4"


def feature_rows(source: str = DEFAULT_SOURCE) -> Float32Array:
    """float32 [n, 32] of a SOURCE, n up to 1,024, after the kernel's windows have filled.

    Raises:
        SourceError: the SOURCE cannot be read.
        InvalidRun: it has no rows that are warm, or only one and the same.
    """
    ticks = [record.tick for record in islice(open_source(source).records(), WARMING + 4 * ROWS)]
    update = FeatureEngine().update(TickBatch.from_ticks(ticks))
    rows = np.ascontiguousarray(update.values[update.warm][-ROWS:])
    if len(rows) < 2 or (rows == rows[0]).all():
        raise InvalidRun(f"{source} has {len(rows)} different warm feature rows: give a longer SOURCE")
    return rows


class ModelRows(Struct, frozen=True):
    """Rows of a model's own inputs, [n, *dims] each and of its dtype; `source` tells where they come from."""

    inputs: tuple[ServedTensor, ...]
    arrays: tuple[Array, ...]
    source: str = "made up"

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.arrays[0])

    def batch(self, at: int, size: int) -> list[tuple[ServedTensor, Array]]:
        """So many rows from a place on, as if they went round."""
        places = range(at, at + size)
        return [
            (tensor, np.ascontiguousarray(np.take(array, places, axis=0, mode="wrap")))
            for tensor, array in zip(self.inputs, self.arrays, strict=True)
        ]


def rows_for(
    served: ServedModel,
    source: str = DEFAULT_SOURCE,
    file: Path | None = None,
    shapes: Mapping[str, str] | None = None,
) -> ModelRows:
    """Rows that a model takes.

    Args:
        served: what the server says of it.
        source: whose features are sent to a model that reads them, where no file is given.
        file: of rows, .npy, .npz, .csv or .parquet.
        shapes: by input, one row's dims, as "3,224,224", of those that the server leaves open.

    Raises:
        InvalidRun: the model takes text, or an input's length is open and nobody says it.
        ConfigurationError, SourceError: the file or the source does not fit.
    """
    if shapes and file is not None:
        raise ConfigurationError("--shape is for rows that are made up, and --rows has them")
    names = [t.name for t in served.inputs]
    if unknown := [name for name in shapes or {} if name not in names]:
        raise ConfigurationError(f"--shape {unknown[0]}: {served.name} takes {', '.join(names)}")
    told = "made up"
    if file is not None:
        told = str(file)
        given = dict(zip(names, arranged(read_rows(file), names), strict=True))
    elif [(t.name, t.dims) for t in served.inputs] == [(FEATURES_TENSOR.name, FEATURES_TENSOR.dims)]:
        told, given = source, {FEATURES_TENSOR.name: feature_rows(source)}
    else:
        random = np.random.default_rng(0)
        dims = {t.name: dims_of(served, t, (shapes or {}).get(t.name, "")) for t in served.inputs}
        wide = sum(math.prod(one) for one in dims.values()) * np.dtype(np.float64).itemsize
        if wide > MOST_ROW_BYTES:
            raise InvalidRun(f"one row of {served.name} would take {wide >> 20:,} MiB")
        count = max(1, min(MADE_UP, MOST_BYTES // wide))
        given = {t.name: made_up(t, (count, *dims[t.name]), random) for t in served.inputs}
    return ModelRows(served.inputs, tuple(fitted(served, t, given) for t in served.inputs), told)


def dims_of(served: ServedModel, tensor: ServedTensor, shape: str) -> tuple[int, ...]:
    """Of one row. Raises InvalidRun where the server leaves them open and nobody says them, or for text."""
    if tensor.dtype == "BYTES":
        raise InvalidRun(f"{served.name} takes text for {tensor.name}: only numbers are sent here")
    dims = tuple(map(int, shape.split(","))) if shape else tensor.dims
    if len(dims) != len(tensor.dims) or any(dim < 1 for dim in dims):
        raise InvalidRun(
            f"{served.name} takes {tensor.name} {tensor.dtype} {list(tensor.dims)}, and rows are sent at one "
            f"length: say --shape {tensor.name}:DIM,DIM or give rows with --rows"
        )
    return dims


def made_up(tensor: ServedTensor, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Normal numbers, or zeros and ones of an input of whole ones: larger ones may be nobody's id."""
    return random.normal(size=shape) if tensor.dtype.startswith(("FP", "BF")) else random.integers(0, 2, size=shape)


def shapes_of(told: list[str]) -> dict[str, str]:
    """One row's dims by input, of NAME:DIM,DIM. Raises ConfigurationError."""
    found = {}
    for text in told:
        name, colon, dims = text.rpartition(":")
        if not (colon and name and re.fullmatch(r"[0-9]+(,[0-9]+)*", dims)):
            raise ConfigurationError(f"--shape {text!r}: expected NAME:DIM,DIM, as image:3,224,224")
        found[name] = dims
    return found

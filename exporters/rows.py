"""Rows of a file as a model's inputs: `trading.models.rows`, with the exporters' errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from exporters.errors import ExportError
from exporters.formats.tensors import Array, Arrays, dtype_of
from trading.errors import ConfigurationError
from trading.models import rows as plain
from trading.models.rows import Rows
from trading.models.signature import TensorSpec


def read_rows(path: Path) -> Rows:
    """Read a file of rows. Raises ExportError."""
    try:
        return plain.read_rows(path)
    except ConfigurationError as error:
        raise ExportError(str(error)) from error


def fit(rows: Rows, inputs: Sequence[TensorSpec]) -> Arrays:
    """The rows as a model's inputs, in their order, each [rows, *dims], of its own dtype.

    Raises:
        ExportError: an input has no array, one has another shape, or holds numbers that the input's dtype has not.
    """
    arrays = arranged(rows, [t.name for t in inputs])
    return [as_input(rows.path, spec, array) for spec, array in zip(inputs, arrays, strict=True)]


def arranged(rows: Rows, names: Sequence[str]) -> Arrays:
    """An array an input, by the inputs' names. Raises ExportError where one has none."""
    try:
        return plain.arranged(rows, names)
    except ConfigurationError as error:
        raise ExportError(str(error)) from error


def as_input(path: Path, spec: TensorSpec, array: Array) -> Array:
    """One input's rows. Raises ExportError."""
    rows = array.reshape(-1, 1) if array.ndim == 1 and spec.dims == (1,) else array
    if rows.shape[1:] != spec.dims:
        raise ExportError(
            f"{path}: {spec.name} has shape {list(array.shape)}, and the model takes "
            f"{spec.dtype} {['rows', *spec.dims]}".replace("'", "")
        )
    try:
        return plain.cast(rows, dtype_of(spec), f"{path}: {spec.name}")
    except ConfigurationError as error:
        raise ExportError(str(error)) from error


def in_order(rows: Rows, columns: Sequence[str]) -> Rows:
    """A table in the order of a model's columns. Raises ExportError."""
    try:
        return plain.in_order(rows, columns)
    except ConfigurationError as error:
        raise ExportError(str(error)) from error

"""Rows that a person gives in a file: .npy, .npz, or a table as CSV or Parquet."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from exporters.errors import ExportError, brief
from exporters.formats.tensors import Array, Arrays, dtype_of
from trading.models.signature import TensorSpec

NUMPY, ZIP, PARQUET = b"\x93NUMPY", b"PK", b"PAR1"
TABLES = (".csv", ".parquet")
KINDS = "give .npy, .npz with an array an input, or a table of numbers as .csv or .parquet"
#: Of names that a message lists.
MOST_NAMES = 12


class Rows(Struct, frozen=True):
    """What a file holds.

    Attributes:
        path: of the file.
        arrays: each [rows, ...], by its name; of .npy and of a table it is one, "".
        columns: names of a table's columns; empty for what is no table, or has no names.
    """

    path: Path
    arrays: Mapping[str, Array]
    columns: tuple[str, ...] = ()

    @property
    def is_table(self) -> bool:
        """Whether it is CSV or Parquet: one matrix of numbers in double precision."""
        return bool(self.columns) or self.path.suffix in TABLES


def read_rows(path: Path, wanted: str = KINDS) -> Rows:
    """Read a file of rows.

    Args:
        path: of the file; what it is, its first bytes tell, or its suffix.
        wanted: what to give instead, for messages.

    Raises:
        ExportError: it cannot be read, holds no row, or something that is no number.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(6)
        if not begins:
            raise ExportError(f"{path} is empty: {wanted}")
        if begins.startswith((NUMPY, ZIP)):
            return _of_arrays(path)
        if begins.startswith(PARQUET) or path.suffix in TABLES:
            return _of_table(path, is_parquet=begins.startswith(PARQUET))
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        objects = "Object arrays" in str(error) or "allow_pickle" in str(error)
        why = "it holds objects" if objects else brief(error) or type(error).__name__
        raise ExportError(f"{path} cannot be read as rows: {why}; {wanted}") from error
    raise ExportError(f"{path} is no file of rows: {wanted}")


def _of_arrays(path: Path) -> Rows:
    stored = np.load(path, allow_pickle=False)
    if isinstance(stored, np.ndarray):
        return checked(path, {"": stored})
    with stored:
        # What is no array in an archive comes as bytes.
        return checked(path, {name: np.asarray(stored[name]) for name in stored.files})


def _of_table(path: Path, *, is_parquet: bool) -> Rows:
    # Half a second, of which only a table has need.
    import pandas as pd

    if is_parquet:
        frame = pd.read_parquet(path)
    else:
        frame = pd.read_csv(path)
        if all(map(is_number, frame.columns)):
            # Rows from the first line on: pandas would take that for names, and add to those that are alike.
            frame = pd.read_csv(path, header=None)
    if frame.empty:
        raise ExportError(f"{path} holds no row: {KINDS}")
    for column, kind in frame.dtypes.items():
        if getattr(kind, "kind", "O") not in "biuf":
            raise ExportError(f"{path}: column {str(column)!r} is {kind}, no number: encode it before the model")
    names = tuple(map(str, frame.columns))
    if names and names[0].startswith("Unnamed: "):
        raise ExportError(f"{path}: its first column has no name, as an index has none: write it with index=False")
    found = checked(path, {"": frame.to_numpy(np.float64)})
    return Rows(path, found.arrays, () if all(map(is_number, names)) else names)


def is_number(name: Any) -> bool:
    """Whether a column's name is none, but a number of the first row."""
    try:
        float(name)
    except (TypeError, ValueError):
        return False
    return True


def checked(path: Path, arrays: Mapping[str, Array]) -> Rows:
    """Arrays that are rows of numbers, as many each. Raises ExportError."""
    for name, array in arrays.items():
        called = f"{path}: {name}" if name else str(path)
        if array.dtype.kind not in "biuf":
            raise ExportError(f"{called} holds {array.dtype}, no numbers: {KINDS}")
        if not array.ndim or not array.size:
            raise ExportError(f"{called} has shape {list(array.shape)}, and is to have [rows, ...], one at least")
    if not arrays:
        raise ExportError(f"{path} holds no array: {KINDS}")
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise ExportError(f"{path}: its arrays must have as many rows each as the other; they have {told}")
    return Rows(path, arrays)


def fit(rows: Rows, inputs: Sequence[TensorSpec]) -> Arrays:
    """The rows as a model's inputs, in their order, each [rows, *dims], of its own dtype.

    Raises:
        ExportError: an input has no array, one has another shape, or holds numbers that the input's dtype has not.
    """
    arrays = arranged(rows, [t.name for t in inputs])
    return [as_input(rows.path, spec, array) for spec, array in zip(inputs, arrays, strict=True)]


def arranged(rows: Rows, names: Sequence[str]) -> Arrays:
    """An array an input, by the inputs' names. Raises ExportError where one has none."""
    held = rows.arrays
    if set(names) <= set(held):
        return [held[name] for name in names]
    if rows.columns and len(names) > 1 and set(names) <= set(rows.columns):
        return [held[""][:, [rows.columns.index(name)]] for name in names]
    if len(names) == 1 and set(held) == {""}:
        return [held[""]]
    shown = list(rows.columns or held)
    told = ", ".join(map(repr, shown[:MOST_NAMES])) if shown != [""] else "one array without a name"
    more = f" and {len(shown) - MOST_NAMES} more" if len(shown) > MOST_NAMES else ""
    absent = next(name for name in names if name not in shown)
    raise ExportError(
        f"{rows.path} has no array {absent!r}; it holds {told}{more}: give .npz with "
        f"{' and '.join(map(repr, names))}"
    )


def as_input(path: Path, spec: TensorSpec, array: Array) -> Array:
    """One input's rows. Raises ExportError."""
    rows = array.reshape(-1, 1) if array.ndim == 1 and spec.dims == (1,) else array
    if rows.shape[1:] != spec.dims:
        raise ExportError(
            f"{path}: {spec.name} has shape {list(array.shape)}, and the model takes "
            f"{spec.dtype} {['rows', *spec.dims]}".replace("'", "")
        )
    wanted = dtype_of(spec)
    with np.errstate(invalid="ignore", over="ignore"):
        found = rows.astype(wanted)
    if wanted.kind in "biu" and not np.array_equal(found, rows):
        raise ExportError(f"{path}: {spec.name} is {spec.dtype}, and the file holds other numbers than such")
    return found

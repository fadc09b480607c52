"""Rows for a model that a person gives in a file: .npy, .npz, or a table as CSV or Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from trading.errors import ConfigurationError

Array = npt.NDArray[Any]
NUMPY, ZIP, PARQUET = b"\x93NUMPY", b"PK", b"PAR1"
TABLES = (".csv", ".parquet")
KINDS = "give .npy, .npz with an array an input, or a table of numbers as .csv or .parquet"
#: Of names, and of a library's words, that a message holds.
MOST_NAMES, MOST_WORDS = 12, 300
#: What pandas calls an index that it writes.
INDEX = "__index_level_"


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


def read_rows(path: Path, wanted: str = KINDS) -> Rows:
    """Read a file of rows.

    Args:
        path: of the file; what it is, its first bytes tell, or its suffix.
        wanted: what to give instead, for messages.

    Raises:
        ConfigurationError: it cannot be read, holds no row, or something that is no number.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(6)
        if not begins:
            raise ConfigurationError(f"{path} is empty: {wanted}")
        if begins.startswith((NUMPY, ZIP)):
            return _of_arrays(path)
        if begins.startswith(PARQUET) or path.suffix in TABLES:
            return _of_table(path, is_parquet=begins.startswith(PARQUET))
    except ConfigurationError:
        raise
    # Whatever damage a file has: each library raises something of its own for it.
    except Exception as error:
        objects = "Object arrays" in str(error) or "allow_pickle" in str(error)
        why = "it holds objects" if objects else " ".join(str(error).split())[:MOST_WORDS] or type(error).__name__
        raise ConfigurationError(f"{path} cannot be read as rows: {why}; {wanted}") from error
    raise ConfigurationError(f"{path} is no file of rows: {wanted}")


def _of_arrays(path: Path) -> Rows:
    # Opened here: of a damaged archive NumPy leaves its own file open.
    with path.open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return checked(path, {"": stored})
        # What is no array in an archive comes as bytes.
        return checked(path, {name: np.asarray(stored[name]) for name in stored.files})


def _of_table(path: Path, *, is_parquet: bool) -> Rows:
    # Of what is read here only a table has need of it.
    import pyarrow as pa
    from pyarrow import csv, parquet

    if is_parquet:
        table = parquet.read_table(path)
    else:
        table = csv.read_csv(path)
        if all(map(is_number, table.column_names)):
            refuse_counted(path, table.column_names)
            # Rows from the first line on.
            table = csv.read_csv(path, read_options=csv.ReadOptions(autogenerate_column_names=True))
            table = table.rename_columns([str(k) for k in range(table.num_columns)])
    if not table.num_rows or not table.num_columns:
        raise ConfigurationError(f"{path} holds no row: {KINDS}")
    names = tuple(table.column_names)
    if any(not name or name.startswith(INDEX) for name in names):
        raise ConfigurationError(
            f"{path}: a column has no name of its own, as an index has none: write it with index=False"
        )
    for field in table.schema:
        kind = field.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise ConfigurationError(f"{path}: column {field.name!r} is {kind}, no number: encode it first")
    arrays = []
    for field, column in zip(table.schema, table.columns, strict=True):
        called = f"{path}: column {field.name!r}"
        if column.null_count and pa.types.is_integer(field.type):
            # With what is missing they are read as floating point, and what that costs is not seen any more.
            cast(column.fill_null(0).to_numpy(), np.dtype(np.float64), called)
        arrays.append(cast(column.to_numpy(), np.dtype(np.float64), called))
    found = checked(path, {"": np.column_stack(arrays)})
    return Rows(path, found.arrays, () if all(map(is_number, names)) else names)


def refuse_counted(path: Path, names: Sequence[str]) -> None:
    """Raise ConfigurationError for 0, 1, 2 and so on: what pandas calls columns without names, and maybe a row."""
    if list(names) == [str(k) for k in range(len(names))]:
        raise ConfigurationError(
            f"{path}: its first line, {', '.join(names[:MOST_NAMES])}, may be a heading without names or a row: "
            "name the columns, write it with header=False and other numbers first, or give .npy"
        )


def cast(array: Array, dtype: np.dtype[Any], called: str) -> Array:
    """An array of another dtype, where that holds the same numbers but for rounding.

    Args:
        array: of numbers.
        dtype: wanted.
        called: what the array is, for the message.

    Raises:
        ConfigurationError: a fraction for a whole number, a finite number that becomes infinite, or a whole number
            that double precision cannot hold.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        found = array.astype(dtype)
        if dtype.kind in "biu" and not np.array_equal(found, array):
            raise ConfigurationError(f"{called} is to be {dtype}, and holds other numbers than such")
        if dtype.kind == "f" and array.dtype.kind == "f" and (np.isfinite(array) & ~np.isfinite(found)).any():
            raise ConfigurationError(
                f"{called} holds numbers beyond {dtype}: the largest is {np.finfo(dtype).max:.3g}"
            )
        if (
            dtype == np.float64
            and array.dtype.kind in "iu"
            and not np.array_equal(found.astype(array.dtype), array)
        ):
            raise ConfigurationError(
                f"{called} holds whole numbers beyond 2^53, which double precision cannot tell apart: give .npz"
            )
    return found


def in_order(rows: Rows, columns: Sequence[str]) -> Rows:
    """A table in the order of a model's columns. Raises ConfigurationError where one of these is absent."""
    if not columns or not rows.columns or tuple(columns) == rows.columns:
        return rows
    if absent := [name for name in columns if name not in rows.columns]:
        raise ConfigurationError(
            f"{rows.path} has no column {absent[0]!r}, which the model was trained on: it holds "
            f"{', '.join(rows.columns[:MOST_NAMES])}"
        )
    at = [rows.columns.index(name) for name in columns]
    return Rows(rows.path, {"": rows.arrays[""][:, at]}, tuple(columns))


def is_number(name: str) -> bool:
    """Whether a column's name is none, but a number of the first row."""
    try:
        float(name)
    except ValueError:
        return False
    return True


def checked(path: Path, arrays: Mapping[str, Array]) -> Rows:
    """Arrays that are rows of numbers, as many each. Raises ConfigurationError."""
    for name, array in arrays.items():
        called = f"{path}: {name}" if name else str(path)
        if array.dtype.kind not in "biuf":
            raise ConfigurationError(f"{called} holds {array.dtype}, no numbers: {KINDS}")
        if not array.ndim or not array.size:
            raise ConfigurationError(
                f"{called} has shape {list(array.shape)}, and is to have [rows, ...], one at least"
            )
    if not arrays:
        raise ConfigurationError(f"{path} holds no array: {KINDS}")
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise ConfigurationError(f"{path}: its arrays must have as many rows each as the other; they have {told}")
    return Rows(path, arrays)


def arranged(rows: Rows, names: Sequence[str]) -> list[Array]:
    """An array an input, by the inputs' names. Raises ConfigurationError where one has none."""
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
    raise ConfigurationError(
        f"{rows.path} has no array {absent!r}; it holds {told}{more}: give .npz with "
        f"{' and '.join(map(repr, names))}"
    )

"""Tables of records: what plain code reads by name and compiled code reads as fast as an array."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, get_type_hints

import numpy as np

Table = Any  # numpy.recarray: its fields are its dtype's


def record_type(fields: type, without: Collection[str] = (), more: Collection[str] = ()) -> np.dtype[Any]:
    """The dtype of a class's annotations: int64 and bool as they say, all else float64, and `more` of that."""
    hints = get_type_hints(fields)
    kinds = {int: "i8", bool: "?"}
    columns = [(name, kinds.get(hint, "f8")) for name, hint in hints.items() if name not in without]
    return np.dtype([*columns, *((name, "f8") for name in more)], align=True)


def table(dtype: np.dtype[Any], rows: int) -> Table:
    """Rows of zeros, whose fields are attributes."""
    return np.zeros(rows, dtype).view(np.recarray)

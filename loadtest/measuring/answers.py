"""Whether an answer is one."""

from __future__ import annotations

from typing import Any

import numpy as np


def finite(name: str, values: Any) -> None:
    """Raise ValueError for an answer that nobody could act on: none, or with NaN, an infinity or JSON's null."""
    array = None if values is None else np.asarray(values)
    if array is None or (array.dtype.kind == "O" and any(one is None for one in array.ravel())):
        raise ValueError(f"{name} is not there")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} is not finite")

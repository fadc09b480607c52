"""Rows that a model is asked: those that it knows, and those that nobody would send on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.unit.exporters.models import around_splits


def rows_for(known: list[Any], path: Path, *, fractions: bool = False) -> Mapping[str, list[Any]]:
    """By kind. Only tables of floating point have other rows than those that they know."""
    found = {"known": known, "one": [a[:1] for a in known]}
    if len(known) != 1 or known[0].dtype.kind != "f" or known[0].ndim != 2:
        return found
    table = known[0]
    random = np.random.default_rng(29)
    mixed = np.take_along_axis(table, random.integers(0, len(table), (64, table.shape[1])), axis=0)
    few = np.nan_to_num(table[:16])
    found["mixed"] = [mixed]
    found["zeros"] = [np.concatenate([np.zeros_like(few[:1]), -np.zeros_like(few[:1])])]
    found["wholes"] = [np.rint(few)]
    for kind, value in {"missing": np.nan, "infinite": np.inf, "least": -np.inf}.items():
        found[kind] = [spoilt(few, value)]
    far = np.concatenate([few * share for share in (1e-40, 1e-6, 1e3, 1e6)]).astype(table.dtype)
    # Where there are whole numbers only, they are codes: of half a code nobody knows what it is.
    codes = (np.rint(np.nan_to_num(table)) == np.nan_to_num(table)).all(axis=0)
    if codes.any():
        found["unseen"] = [np.where(codes, np.float32(200), few).astype(table.dtype)]
    found["extreme"] = [np.where(codes, np.rint(far), far)]
    if fractions:
        found["fractions"] = [np.concatenate([few + 0.25, few - 0.25]).astype(table.dtype)]
    if path.suffix == ".onnx":
        around = around_splits(path, few[0].astype(np.float32)).astype(table.dtype)
        # No more than some: of a forest there are thousands.
        found["splits"] = [around[:: max(1, len(around) // 900)] if len(around) else few]
    return found


def spoilt(rows: Any, value: float) -> Any:
    """Each column alone, then all of them."""
    width = rows.shape[1]
    made = np.resize(rows, (width + 1, width)).copy()
    made[np.arange(width), np.arange(width)] = value
    made[width] = value
    return made

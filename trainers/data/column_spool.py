"""Columns of unknown length on disk: written as they come, mapped afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from trading.features.definitions import FEATURES

MARKET = ("bid", "ask", "last", "mid")
BAR = ("bar_open", "bar_high", "bar_low", "bar_volume", "bar_ticks")


class Scratch:
    """Of a build: the path of every tick with a price, and the rows."""

    COLUMNS: ClassVar[dict[str, tuple[type, int]]] = {
        "path_symbol": (np.int64, 1),
        "path_time": (np.int64, 1),
        "path_mid": (np.float64, 1),
        "row_path": (np.int64, 1),
        "row_symbol": (np.int64, 1),
        "row_time": (np.int64, 1),
        "row_age": (np.int64, 1),
        "row_quote_time": (np.int64, 1),
        "row_features": (np.float32, len(FEATURES)),
        "row_market": (np.float64, len(MARKET)),
        "row_bar": (np.float64, len(BAR)),
    }  # fmt: skip

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._files = {name: (folder / name).open("wb") for name in self.COLUMNS}

    def add(self, **columns: np.typing.NDArray[Any]) -> None:
        """More of some columns."""
        for name, values in columns.items():
            self._files[name].write(np.ascontiguousarray(values, self.COLUMNS[name][0]).data)

    def mapped(self, name: str) -> Any:
        """A column as it lies on disk; an ordinary empty array where nothing was written."""
        self._files[name].close()
        dtype, width = self.COLUMNS[name]
        path = self._folder / name
        if not path.stat().st_size:
            return np.empty((0, width) if width > 1 else 0, dtype)
        values = np.memmap(path, dtype, "r")
        return values.reshape(-1, width) if width > 1 else values

    def close(self) -> None:
        """Close what is still open."""
        for file in self._files.values():
            file.close()


def slices(n: int, size: int) -> list[slice]:
    """range(n) in parts of at most `size`."""
    return [slice(begin, min(n, begin + size)) for begin in range(0, n, size)]

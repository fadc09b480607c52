"""Rows and labels as Parquet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trading.features.definitions import FEATURES
from trainers.data.column_spool import BAR, MARKET, Scratch, slices
from trainers.data.labels import Labels
from trainers.data.manifest import DataFile, file_hash

#: Rows of a file, and of a group within it.
FILE_ROWS, GROUP_ROWS = 1_000_000, 65_536


def write_rows(
    folder: Path, scratch: Scratch, made: Labels, symbols: Iterable[str], progress: Callable[[str, int], None]
) -> Iterator[DataFile]:
    """Write rows and their labels to files of FILE_ROWS; yields each when it is on disk.

    Args:
        folder: of the dataset.
        scratch: of the build.
        made: labels of all rows.
        symbols: by number.
        progress: called with "write" and the rows written so far.
    """
    names = pa.array(list(symbols))
    for number, part in enumerate(slices(len(made.side), FILE_ROWS)):
        path = folder / f"rows-{number:05d}.parquet"
        schema = table(scratch, slice(part.start, part.start), made, names).schema
        with path.open("wb") as file, pq.ParquetWriter(file, schema, compression="zstd", compression_level=1,
                                                       use_dictionary=["symbol"]) as writer:  # fmt: skip
            for group in slices(part.stop - part.start, GROUP_ROWS):
                rows = slice(part.start + group.start, part.start + group.stop)
                writer.write_table(table(scratch, rows, made, names), row_group_size=GROUP_ROWS)
                progress("write", rows.stop)
            writer.close()
            file.flush()
            os.fsync(file.fileno())
        yield DataFile(path.name, part.stop - part.start, file_hash(path))


def table(scratch: Scratch, rows: slice, made: Labels, names: pa.Array) -> pa.Table:
    """Some rows as Arrow has them."""
    column = scratch.mapped
    features, market, bar = column("row_features")[rows], column("row_market")[rows], column("row_bar")[rows]
    symbols = pa.array(np.asarray(column("row_symbol")[rows]).astype(np.int32))
    arrays: dict[str, Any] = {
        "symbol": pa.DictionaryArray.from_arrays(symbols, names),
        "event_time_ns": np.asarray(column("row_time")[rows]),
        "quote_time_ns": np.asarray(column("row_quote_time")[rows]),
        **{name: np.ascontiguousarray(features[:, k]) for k, name in enumerate(FEATURES)},
        **{name: np.ascontiguousarray(market[:, k]) for k, name in enumerate(MARKET)},
        **{name: np.ascontiguousarray(bar[:, k]) for k, name in enumerate(BAR)},
        "label_side": made.side[rows], "label_return": made.realised[rows],
        "label_deviation": made.deviation[rows], "label_end_ns": made.end_ns[rows],
        "label_uniqueness": made.uniqueness[rows], "label_valid": made.valid[rows],
        "next_log_return": made.next_log_return[rows],
    }  # fmt: skip
    return pa.table(arrays)

"""Rows as Arrow tables, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from services.data.rows import LivedRows
from trading.features.definitions import FEATURE_VERSION, FEATURES
from trading.history.archive import QUOTED

SCHEMA = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("record_offset", pa.int64(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("event_time_ns", pa.int64(), nullable=False),
        pa.field("state_time_ns", pa.int64(), nullable=False),
        pa.field("appended_ns", pa.int64(), nullable=False),
        pa.field("sent_ns", pa.int64(), nullable=False),
        pa.field("traceparent", pa.binary()),
        *(pa.field(name, pa.float64()) for name in QUOTED),
        pa.field("warm", pa.bool_(), nullable=False),
        *(pa.field(name, pa.float32(), nullable=False) for name in FEATURES),
    ],
    metadata={"feature_version": str(FEATURE_VERSION)},
)


def to_table(partition: int, parts: Sequence[LivedRows]) -> Any:
    """Rows of one partition, in their order, with the columns of `SCHEMA`; an unknown quote is null."""

    def joined(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    symbols = [symbol for part in parts for symbol in part.symbols]
    quotes, features = joined("quotes"), joined("features")
    columns = [
        pa.array(np.full(len(symbols), partition, np.int32)),
        pa.array(joined("offsets")),
        pa.array(symbols, pa.string()),
        pa.array(joined("event_time_ns")),
        pa.array(joined("state_time_ns")),
        pa.array(joined("appended_ns")),
        pa.array(joined("sent_ns")),
        pa.array([trace for part in parts for trace in part.traces], pa.binary()),
        *(pa.array(quotes[:, k], from_pandas=True) for k in range(len(QUOTED))),
        pa.array(joined("warm")),
        *(pa.array(np.ascontiguousarray(features[:, k])) for k in range(len(FEATURES))),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def to_rows(table: Any) -> LivedRows:
    """The rows of a table with the columns of `SCHEMA`, bit for bit."""

    def column(name: str) -> Any:
        return table.column(name).to_numpy()

    n = table.num_rows
    quotes, features = np.empty((n, len(QUOTED))), np.empty((n, len(FEATURES)), np.float32)
    for k, name in enumerate(QUOTED):
        quotes[:, k] = column(name)
    for k, name in enumerate(FEATURES):
        features[:, k] = column(name)
    return LivedRows(
        table.column("symbol").to_pylist(), column("record_offset"), column("event_time_ns"),
        column("state_time_ns"), column("appended_ns"), quotes, features, column("warm").astype(np.bool_),
        column("sent_ns"), table.column("traceparent").to_pylist(),
    )  # fmt: skip

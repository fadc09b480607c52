"""A partition's features as a file: where an archive goes on without reading the ticks again."""

from __future__ import annotations

import numpy as np
from msgspec import Struct, msgpack

from trading.encoding import Int64, Records
from trading.errors import BadRecord
from trading.features import kernel
from trading.features.definitions import FEATURE_VERSION
from trading.features.engine import FeatureEngine

_encode = msgpack.Encoder().encode


class FeatureState(Struct, frozen=True):
    """The engine's state after the tick before `next_offset`; arrays as their bytes, little-endian."""

    partition: int
    next_offset: Int64
    feature_version: int
    symbols: list[str]
    ints: bytes
    floats: bytes


_states: Records[FeatureState] = Records(FeatureState, packed=True)


def encode_state(partition: int, next_offset: int, engine: FeatureEngine) -> bytes:
    """As it is kept."""
    symbols, ints, floats = engine.dump()
    return _encode(
        FeatureState(
            partition, next_offset, FEATURE_VERSION, symbols, ints.astype("<i8").tobytes(),
            floats.astype("<f8").tobytes(),
        )
    )  # fmt: skip


def decode_state(content: bytes, partition: int, next_offset: int) -> FeatureEngine:
    """The engine again. Raises BadRecord for what is no state, or of another place or version."""
    found = _states.read(content)
    if (found.partition, found.next_offset) != (partition, next_offset):
        raise BadRecord(f"it is the state of partition {found.partition} before offset {found.next_offset}")
    if found.feature_version != FEATURE_VERSION:
        raise BadRecord(f"it is of feature version {found.feature_version}, and this is {FEATURE_VERSION}")
    n = len(found.symbols)
    try:
        ints = np.frombuffer(found.ints, "<i8").reshape(n, kernel.INT_WIDTH)
        floats = np.frombuffer(found.floats, "<f8").reshape(n, kernel.FLOAT_WIDTH)
        return FeatureEngine.load(found.symbols, ints.astype(np.int64), floats.astype(np.float64))
    except ValueError as error:
        raise BadRecord(f"its arrays do not fit: {error}") from None

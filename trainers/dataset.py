"""Recorded ticks as arrays: features through the gateway's own kernel, and what is needed for labels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from msgspec import Struct

from gateway.domain.errors import SourceError
from gateway.domain.features import FEATURES, FeatureEngine
from gateway.domain.schemas import BoolArray, Float32Array, FloatArray, Int64Array, TickBatch
from gateway.history import Record, Source

CHUNK = 8192
#: Fewer warm rows than this teach nothing.
MIN_ROWS = 5_000


class Dataset(Struct, frozen=True):
    """n warm rows in arrival order.

    Attributes:
        features: float32 [n, 32].
        symbols: int64 [n], index into `names`.
        time_ns: int64 [n], event times.
        log_mid: float64 [n].
        half_spread: float64 [n], relative to the mid; NaN where the source has no quotes.
        names: symbols by index.
        data_hash: SHA-256 of every tick read, in order.
        dropped: bad lines of the source.
    """

    features: Float32Array
    symbols: Int64Array
    time_ns: Int64Array
    log_mid: FloatArray
    half_spread: FloatArray
    names: tuple[str, ...]
    data_hash: str
    dropped: int

    def __len__(self) -> int:
        return len(self.time_ns)

    def column(self, name: str) -> FloatArray:
        """One feature, float64 [n]."""
        return self.features[:, FEATURES.index(name)].astype(np.float64)


def build(source: Source, progress: Callable[[int], None], limit: int | None = None) -> Dataset:
    """Read a source through the kernel.

    Args:
        source: recorded ticks.
        progress: called with the number of ticks read so far.
        limit: stop after so many ticks.

    Raises:
        SourceError: the source has too few ticks to learn from.
    """
    engine, digest, names = FeatureEngine(), hashlib.sha256(), dict[str, int]()
    parts: list[tuple[Float32Array, Int64Array, Int64Array, FloatArray, BoolArray]] = []
    read = 0
    for chunk in chunks(source.records(), limit):
        batch = TickBatch.from_ticks([r.tick for r in chunk])
        rows = engine.update(batch)
        index = np.array([names.setdefault(s, len(names)) for s in batch.symbols], np.int64)
        for piece in (
            ",".join(batch.symbols).encode(),
            batch.event_time_ns.tobytes(),
            batch.quotes.tobytes(),
        ):
            digest.update(piece)
        parts.append((rows.values, index, batch.event_time_ns, rows.market, rows.warm))
        read += len(chunk)
        progress(read)
    features, symbols, time_ns, market, warm = (np.concatenate(p) for p in zip(*parts, strict=True))
    if warm.sum() < MIN_ROWS:
        raise SourceError(f"{source.spec} has {warm.sum()} warm ticks; at least {MIN_ROWS} are needed to train")
    mid = market[warm, 3]
    return Dataset(
        features=features[warm],
        symbols=symbols[warm],
        time_ns=time_ns[warm],
        log_mid=np.log(mid),
        half_spread=0.5 * (market[warm, 1] - market[warm, 0]) / mid,
        names=tuple(names),
        data_hash=digest.hexdigest(),
        dropped=source.dropped.count,
    )


def chunks(records: Iterator[Record], limit: int | None) -> Iterator[list[Record]]:
    """Lists of up to CHUNK records."""
    taken = islice(records, limit)
    while chunk := list(islice(taken, CHUNK)):
        yield chunk

"""From chunks of all symbols to a file a day and symbol."""

from __future__ import annotations

import hashlib
import string
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.data.archive.tables import SCHEMA
from trading.files import replace_file, sync
from trading.history.archive import ArchiveFile, check_file

GROUP_ROWS = 16_384
#: Parts of a day and symbol that are joined while the day still lasts.
MOST_PARTS = 64
PLAIN = frozenset(string.ascii_letters + string.digits + "_-")


class DayWriter:
    """Writes the files of days; none of them counts until a head names it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def split(
        self, number: int, day: str, files: Sequence[ArchiveFile], chunks: Sequence[ArchiveFile], *, whole: bool
    ) -> list[ArchiveFile]:
        """The files of a day once chunks are among them.

        Args:
            number: of the head that will name them.
            day: of the broker's clock.
            files: of the day so far, of one symbol each.
            chunks: of the day, in any order.
            whole: whether each partition's symbol gets one file, because the day is over.
        """
        parts: dict[tuple[int, str], list[ArchiveFile]] = defaultdict(list)
        for one in files:
            parts[one.partition, one.symbol].append(one)
        for partition in sorted({one.partition for one in chunks}):
            mine = sorted((c for c in chunks if c.partition == partition), key=lambda one: one.first_offset)
            for one in self._split_chunks(number, day, partition, mine):
                parts[partition, one.symbol].append(one)
        found = []
        for (partition, symbol), mine in sorted(parts.items()):
            if len(mine) > (1 if whole else MOST_PARTS):
                found.append(self._join(number, day, partition, symbol, mine))
            else:
                found += mine
        return found

    def _split_chunks(
        self, number: int, day: str, partition: int, chunks: Sequence[ArchiveFile]
    ) -> list[ArchiveFile]:
        if not chunks:
            return []
        table = pa.concat_tables([self._read(one) for one in chunks])
        codes = table.column("symbol").combine_chunks().dictionary_encode()
        symbols, indices = codes.dictionary.to_pylist(), codes.indices.to_numpy()
        order = np.argsort(indices, kind="stable")
        bounds = np.searchsorted(indices[order], np.arange(len(symbols) + 1))
        found = []
        for k, symbol in enumerate(symbols):
            mine = table.take(pa.array(order[bounds[k] : bounds[k + 1]]))
            found.append(self._write(number, day, partition, symbol, mine.to_batches()))
        return found

    def _join(
        self, number: int, day: str, partition: int, symbol: str, parts: Sequence[ArchiveFile]
    ) -> ArchiveFile:
        """Parts one after another, a piece at a time."""
        parts = sorted(parts, key=lambda one: one.first_offset)

        def batches() -> Any:
            for one in parts:
                check_file(self._folder, one)
                with pq.ParquetFile(self._folder / one.path) as file:
                    yield from file.iter_batches(GROUP_ROWS)

        return self._write(number, day, partition, symbol, batches(), joined="j")

    def _read(self, file: ArchiveFile) -> Any:
        check_file(self._folder, file)
        return pq.read_table(self._folder / file.path, schema=SCHEMA)

    def _write(
        self, number: int, day: str, partition: int, symbol: str, batches: Any, joined: str = ""
    ) -> ArchiveFile:
        place = f"days/{day}/{escaped(symbol)}-{partition}-{number}{joined}.parquet"
        path = self._folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        rows, offsets, times = 0, [], []

        def write(file: Any) -> None:
            nonlocal rows
            with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
                for batch in batches:
                    if batch.num_rows:
                        writer.write_batch(batch, row_group_size=GROUP_ROWS)
                        rows += batch.num_rows
                        at, moments = batch.column("record_offset"), batch.column("state_time_ns")
                        offsets.extend([at[0].as_py(), at[-1].as_py()])
                        # Within a symbol neither runs backwards.
                        times.extend([moments[0].as_py(), moments[-1].as_py()])

        replace_file(path, write)
        sync(path.parent)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return ArchiveFile(
            place, sha256, day, partition, symbol, rows, min(offsets), max(offsets), min(times), max(times)
        )


def escaped(symbol: str) -> str:
    """A symbol as a part of a file's name: what is no letter, digit, - or _ is written by its code."""
    return "".join(one if one in PLAIN else f"%{ord(one):02X}" for one in symbol)

"""lean:PATH.zip - QuantConnect Lean quote ticks: CSV of ms since midnight, bid, ask.

The date and the symbol come from the CSV's name, YYYYMMDD_SYMBOL_tick_quote.csv; Lean writes
forex times in UTC.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from trading.errors import SourceError
from trading.history.source import Dropped, Record, Source, existing
from trading.market import Tick

MS = 1_000_000


def open_lean(spec: str, path: str, options: dict[str, str]) -> Source:
    """Raises SourceError for a missing file or another suffix."""
    file = existing(path, (".zip",), "a zip of Lean quote ticks, lean:PATH.zip")
    return Source(spec, lambda dropped: read(file, dropped))


def read(path: Path, dropped: Dropped) -> Iterator[Record]:
    """Quotes in file order; Lean carries no sizes for forex."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith("_tick_quote.csv")]
            if len(names) != 1:
                raise SourceError(f"{path}: expected one *_tick_quote.csv, found {archive.namelist()}")
            midnight_ns, symbol = name_parts(path, names[0])
            with archive.open(names[0]) as raw:
                lines = csv.reader(io.TextIOWrapper(raw, "utf-8", newline=""))
                yield from rows(lines, midnight_ns, symbol, dropped)
    except (zipfile.BadZipFile, zlib.error, UnicodeDecodeError) as error:
        raise SourceError(f"{path} is no zip of CSV text: {error}") from error


def rows(lines: Iterator[list[str]], midnight_ns: int, symbol: str, dropped: Dropped) -> Iterator[Record]:
    """Ticks of the CSV's lines."""
    for number, line in enumerate(lines, 1):
        try:
            time_ns = midnight_ns + int(line[0]) * MS
            bid, ask = float(line[1]), float(line[2])
            if not (0.0 < bid < math.inf and 0.0 < ask < math.inf):
                raise ValueError(f"bid {bid} and ask {ask} must be finite and above zero")
        except (ValueError, IndexError) as error:
            dropped.add(number, str(error))
            continue
        yield Record(time_ns, Tick(symbol, time_ns, bid=bid, ask=ask))


def name_parts(path: Path, name: str) -> tuple[int, str]:
    """Midnight in ns and the symbol, from YYYYMMDD_SYMBOL_tick_quote.csv."""
    parts = Path(name).name.split("_")
    try:
        midnight = datetime.strptime(parts[0], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise SourceError(f"{path}: {name} does not begin with YYYYMMDD_SYMBOL_") from error
    return int(midnight.timestamp()) * 1_000_000_000, parts[1].upper()

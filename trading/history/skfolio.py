"""skfolio:sp500 - daily closes of 20 US stocks, 1990 to 2022, from the data file in skfolio's wheel."""

from __future__ import annotations

import csv
import gzip
import importlib.util
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from trading.errors import SourceError
from trading.history.source import Dropped, Record, Source
from trading.market import Tick

NEW_YORK = ZoneInfo("America/New_York")
CLOSE_HOUR = 16


def open_skfolio(spec: str, name: str, options: dict[str, str]) -> Source:
    """The only data set is sp500."""
    if name != "sp500":
        raise SourceError(f"{spec!r}: the only data set is skfolio:sp500")
    found = importlib.util.find_spec("skfolio")
    if found is None or not found.submodule_search_locations:
        raise SourceError("skfolio is not installed: the extra 'embedded' brings it; or name another SOURCE")
    # The file alone is used: importing skfolio would need its optimisers.
    path = Path(found.submodule_search_locations[0]) / "datasets" / "data" / "sp500_dataset.csv.gz"
    if not path.is_file():
        raise SourceError(f"{path} is missing: this version of skfolio carries no sp500 data set")
    return Source(spec, lambda dropped: read(path, dropped))


def read(path: Path, dropped: Dropped) -> Iterator[Record]:
    """One tick a stock and day, at 16:00 New York time; the close is the latest trade."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, None)
        if not header or header[0] != "Date":
            raise SourceError(f"{path}: expected a header that begins with Date, got {header}")
        for number, line in enumerate(lines, 2):
            try:
                day = datetime.strptime(line[0], "%Y-%m-%d").replace(hour=CLOSE_HOUR, tzinfo=NEW_YORK)
                time_ns = int(day.timestamp()) * 1_000_000_000
                closes = [float(value) for value in line[1:]]
            except (ValueError, IndexError) as error:
                dropped.add(number, str(error))
                continue
            for symbol, close in zip(header[1:], closes, strict=False):
                yield Record(time_ns, Tick(symbol, time_ns, last=close))

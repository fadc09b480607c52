"""Questions to the archive, answered by DuckDB from the files that can hold the answer."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import structlog
from msgspec import Struct

from services.data.archive.tables import SCHEMA, to_rows
from services.data.rows import LivedRows
from trading.errors import ServiceUnavailable
from trading.history.archive import ArchiveFile, ArchiveHead, files_of_day

log = structlog.get_logger()
#: Files that are looked into at once for one row, the newest first.
AT_ONCE = 8
COLUMNS = ", ".join(f'"{name}"' for name in SCHEMA.names)


class Span(Struct, frozen=True):
    """Rows of one symbol of a partition, by offset and state time, both inclusive."""

    partition: int
    symbol: str
    first_offset: int = 0
    last_offset: int = 2**62
    first_ns: int = -(2**62)
    last_ns: int = 2**62


class History:
    """One archive as it is looked at; may be asked by several threads."""

    def __init__(self, folder: Path, memory_mb: int = 512, threads: int = 2) -> None:
        """Nothing is there until it is shown a head.

        Args:
            folder: of the archive.
            memory_mb: that DuckDB may take; what needs more is put on disk.
            threads: that it may use.
        """
        self._folder = folder
        self._database = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": f"{memory_mb}MB",
                "threads": threads,
                "autoinstall_known_extensions": False,
                "temp_directory": tempfile.gettempdir(),
            },
        )
        self._lock = threading.Lock()
        self._head: ArchiveHead | None = None
        #: Day -> its manifest's digest, and its files.
        self._files: dict[str, tuple[str, list[ArchiveFile]]] = {}
        self._by_symbol: dict[str, list[ArchiveFile]] = {}

    def show(self, head: ArchiveHead) -> None:
        """The archive is this from now on. Raises SourceError for a damaged manifest."""
        files = {}
        for day in head.days:
            before = self._files.get(day.day)
            known = before if before is not None and before[0] == day.sha256 else None
            files[day.day] = known or (day.sha256, files_of_day(self._folder, day))
        by_symbol: dict[str, list[ArchiveFile]] = {}
        if files != self._files:
            for _, mine in files.values():
                for one in mine:
                    by_symbol.setdefault(one.symbol, []).append(one)
        with self._lock:
            if files != self._files:
                self._by_symbol = by_symbol
            self._head, self._files = head, files

    def files(self, span: Span) -> list[ArchiveFile]:
        """Those that may hold rows of a span, in the order of their offsets."""
        with self._lock:
            head, mine = self._head, self._by_symbol.get(span.symbol, [])
        if head is None:
            return []
        every = [*mine, *head.chunks]
        fitting = [
            one
            for one in every
            if one.partition == span.partition
            and one.first_offset <= span.last_offset
            and one.last_offset >= span.first_offset
            and one.first_ns <= span.last_ns
            and one.last_ns >= span.first_ns
        ]
        return sorted(fitting, key=lambda one: one.first_offset)

    def first(self, span: Span, limit: int) -> LivedRows:
        """The first rows of a span, at most `limit`. Raises ServiceUnavailable."""
        return self._ask(self.files(span), span, f"ORDER BY record_offset LIMIT {int(limit)}")

    def last(self, span: Span) -> LivedRows:
        """The last row of a span; none where it holds none. Raises ServiceUnavailable."""
        files = self.files(span)
        found = to_rows(SCHEMA.empty_table())
        while files and not len(found):
            newest, files = files[-AT_ONCE:], files[:-AT_ONCE]
            # One that begins later may end earlier in time only where its symbol is another.
            found = self._ask(newest, span, "ORDER BY record_offset DESC LIMIT 1")
        return found

    def query(self, statement: str, values: Sequence[Any], files: Sequence[ArchiveFile]) -> Any:
        """An Arrow table of what DuckDB says to a statement that reads from `rows`. Raises ServiceUnavailable."""
        paths = [str(self._folder / one.path) for one in files]
        cursor = self._database.cursor()
        try:
            return cursor.sql(
                f"WITH rows AS (SELECT * FROM read_parquet(?)) {statement}",  # noqa: S608 - ours
                params=[paths, *values],
            ).to_arrow_table()
        except duckdb.Error as error:
            log.warning("the archive cannot be read", why=str(error)[:500])
            raise ServiceUnavailable("the archive cannot be read: the service's log says why") from error
        finally:
            cursor.close()

    def _ask(self, files: Sequence[ArchiveFile], span: Span, ending: str) -> LivedRows:
        if not files:
            return to_rows(SCHEMA.empty_table())
        values = [
            span.symbol, span.partition, span.first_offset, span.last_offset, span.first_ns, span.last_ns,
        ]  # fmt: skip
        table = self.query(
            f"SELECT {COLUMNS} FROM rows WHERE symbol = ? AND partition = ? AND record_offset BETWEEN ? AND ? "  # noqa: S608 - ours
            f"AND state_time_ns BETWEEN ? AND ? {ending}",
            values,
            files,
        )
        return to_rows(table.cast(SCHEMA))

"""Questions to the archive, answered by DuckDB from the files that can hold the answer."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
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
LIMIT_S = 30.0
COLUMNS = ", ".join(f'"{name}"' for name in SCHEMA.names)


NO_END = 2**62
_ASKED = """
WITH asked AS (
    SELECT unnest(?::BIGINT[]) AS question, unnest(?::VARCHAR[]) AS symbol, unnest(?::INTEGER[]) AS partition,
        unnest(?::BIGINT[]) AS last
), rows AS (
    SELECT * FROM read_parquet(?) WHERE symbol IN (SELECT symbol FROM asked)
)
"""
#: The last row of each question by its offset; each is looked up, and not compared with all.
LAST_BY_OFFSET = f"""
{_ASKED}
SELECT question, {", ".join(f'rows."{name}"' for name in SCHEMA.names)}
FROM asked ASOF JOIN rows
    ON asked.symbol = rows.symbol AND asked.partition = rows.partition AND asked.last >= rows.record_offset
"""  # noqa: S608 - constants
#: By its time, of which there may be several rows: the last of these.
LAST_BY_TIME = f"""
{_ASKED}, moments AS (
    SELECT symbol, partition, state_time_ns, max(record_offset) AS newest FROM rows GROUP BY ALL
), hits AS (
    SELECT asked.question, moments.partition, moments.newest
    FROM asked ASOF JOIN moments
        ON asked.symbol = moments.symbol AND asked.partition = moments.partition
            AND asked.last >= moments.state_time_ns
)
SELECT question, {", ".join(f'rows."{name}"' for name in SCHEMA.names)}
FROM hits JOIN rows ON rows.partition = hits.partition AND rows.record_offset = hits.newest
"""  # noqa: S608 - constants


class Span(Struct, frozen=True):
    """Rows of one symbol of a partition, by offset and state time, both inclusive."""

    partition: int
    symbol: str
    first_offset: int = 0
    last_offset: int = NO_END
    first_ns: int = -NO_END
    last_ns: int = NO_END


class History:
    """One archive as it is looked at; may be asked by several threads."""

    def __init__(self, folder: Path, memory_mb: int = 512, threads: int = 2, limit_s: float = LIMIT_S) -> None:
        """Nothing is there until it is shown a head.

        Args:
            folder: of the archive.
            memory_mb: that DuckDB may take; what needs more is put on disk.
            threads: that it may use.
            limit_s: after which a question is given up.
        """
        self._folder, self._limit_s = folder, limit_s
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
        return self.last_of_all([span])[0] or LivedRows.empty()

    def last_of_all(self, spans: Sequence[Span]) -> list[LivedRows | None]:
        """The last row of each span that ends at an offset or at a time; None where it holds none.

        Those that look into the same files are one question; the newest files are asked first. Raises
        ServiceUnavailable.
        """
        found: list[LivedRows | None] = [None] * len(spans)
        open_files = {k: self.files(span) for k, span in enumerate(spans)}
        while open_files:
            together: dict[tuple[bool, tuple[str, ...]], list[int]] = {}
            for k, files in open_files.items():
                paths = tuple(one.path for one in files[-AT_ONCE:])
                together.setdefault((spans[k].last_ns < NO_END, paths), []).append(k)
            for (by_time, paths), numbers in together.items():
                if paths:
                    table = self._last_rows(paths, [spans[k] for k in numbers], by_time=by_time)
                    for row, number in enumerate(table.column("question").to_pylist()):
                        found[numbers[number]] = to_rows(table.slice(row, 1).select(SCHEMA.names).cast(SCHEMA))
            # One that begins later may end earlier in time only where its symbol is another.
            open_files = {k: files[:-AT_ONCE] for k, files in open_files.items() if found[k] is None and files}
        return found

    def _last_rows(self, paths: Sequence[str], spans: Sequence[Span], *, by_time: bool) -> Any:
        """The last row of each span within some files, with the number of its `question`."""
        lists = [
            list(range(len(spans))), [one.symbol for one in spans], [one.partition for one in spans],
            [one.last_ns if by_time else one.last_offset for one in spans],
        ]  # fmt: skip
        return self._run(LAST_BY_TIME if by_time else LAST_BY_OFFSET, [*lists, self._places(paths)])

    def _places(self, paths: Sequence[str]) -> list[str]:
        return [str(self._folder / path) for path in paths]

    def _ask(self, files: Sequence[ArchiveFile], span: Span, ending: str) -> LivedRows:
        if not files:
            return LivedRows.empty()
        table = self._run(
            f"WITH rows AS (SELECT * FROM read_parquet(?)) SELECT {COLUMNS} FROM rows WHERE symbol = ? "  # noqa: S608 - ours
            f"AND partition = ? AND record_offset BETWEEN ? AND ? AND state_time_ns BETWEEN ? AND ? {ending}",
            [
                self._places([one.path for one in files]), span.symbol, span.partition, span.first_offset,
                span.last_offset, span.first_ns, span.last_ns,
            ],
        )  # fmt: skip
        return to_rows(table.cast(SCHEMA))

    def _run(self, statement: str, values: Sequence[Any]) -> Any:
        """An Arrow table. Raises ServiceUnavailable."""
        cursor = self._database.cursor()
        limit = threading.Timer(self._limit_s, interrupt, [cursor])
        limit.daemon = True
        limit.start()
        try:
            return cursor.sql(statement, params=list(values)).to_arrow_table()
        except duckdb.InterruptException:
            raise ServiceUnavailable(
                f"the archive did not answer within {self._limit_s:g} s: ask for a shorter span"
            ) from None
        except duckdb.Error as error:
            log.warning("the archive cannot be read", why=str(error)[:500])
            raise ServiceUnavailable("the archive cannot be read: the service's log says why") from error
        finally:
            limit.cancel()
            cursor.close()


def interrupt(cursor: duckdb.DuckDBPyConnection) -> None:
    """End its question; one that has just ended by itself is closed."""
    with suppress(duckdb.Error):
        cursor.interrupt()

"""A span of the trail as files for people: one page, and a CSV a part."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from msgspec import Struct

from services.forensics.reporting import Table, TrailSummary, summarize
from services.forensics.settings import ForensicsSettings
from services.forensics.store.reading import opened
from stack.workflows.regulation import REGULATION
from trading.errors import ConfigurationError
from trading.files import replace_file

PAGE = "report.html"
#: Rows of a part on the page; the CSV holds all.
MOST_ROWS = 200
#: What spreadsheets take for the beginning of a formula, full-width signs too.
FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")


class WrittenReport(Struct, frozen=True):
    """What was written.

    Attributes:
        folder: of all files.
        page: the HTML.
        tables: rows of each CSV.
        orders, rejections, kill_switch_uses, limit_changes: how many.
    """

    folder: str
    page: str
    tables: dict[str, int]
    orders: int
    rejections: int
    kill_switch_uses: int
    limit_changes: int


def to_span(since: str, until: str | None) -> tuple[datetime, datetime]:
    """Times of ISO 8601, UTC where they name no zone; a date alone as `until` is in the span.

    Raises ConfigurationError.
    """
    begin, end = to_moment("--from", since), datetime.now(UTC) if until is None else to_moment("--to", until)
    if until is not None and is_date(until):
        end += timedelta(days=1)
    if begin >= end:
        raise ConfigurationError(f"--from {since} does not lie before --to {until or 'now'}")
    return begin, end


def to_moment(name: str, text: str) -> datetime:
    """Raises ConfigurationError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{name} {text}: give a date or time, as 2026-11-27 or 2026-11-27T15:30:00Z"
        ) from None
    if not 1970 <= moment.year < 2200:
        raise ConfigurationError(f"{name} {text}: no desk has decided then; give a time between 1970 and 2200")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def is_date(text: str) -> bool:
    """Whether it names a day and no time of it."""
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def write_report(
    settings: ForensicsSettings, since: datetime, until: datetime, folder: Path, show: Callable[[str], None]
) -> WrittenReport:
    """Count a span, and write it.

    Raises:
        ConfigurationError: there is no trail, or the folder cannot be written.
        ServiceUnavailable: PostgreSQL does not answer.
    """
    show("counting")
    with opened(settings.reader_url.get_secret_value()) as reader:
        summary = summarize(reader, since, until)
        line = reader.last_number()
    show("writing")
    told = f"The newest checkpoint is number {line}; whether all is as it was signed, forensics verify tells."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for table in summary.tables:
            replace_file(folder / f"{table.name}.csv", to_csv(table))
        replace_file(folder / PAGE, to_page(summary, told).encode())
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror}") from error
    counts = {table.name: len(table.rows) for table in summary.tables}
    return WrittenReport(
        str(folder), str(folder / PAGE), counts, total(summary.table("orders"), 2),
        total(summary.table("rejections"), 1), counts["kill_switch"], counts["limit_changes"],
    )  # fmt: skip


def total(table: Table, column: int) -> int:
    """Of a column of counts."""
    return sum(int(row[column]) for row in table.rows)


def to_csv(table: Table) -> bytes:
    """With a header; what a spreadsheet would take for a formula is text."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow([inert(value) for value in row])
    return file.getvalue().encode()


def inert(value: Any) -> Any:
    """A reason that begins as a formula does is led by an apostrophe."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    begins = isinstance(value, str) and value.lstrip()[:1] in FORMULA
    return f"'{value}" if begins or (isinstance(value, str) and value[:1] in {"\t", "\r", "\n"}) else value


def to_page(summary: TrailSummary, verified: str) -> str:
    """One page of HTML; everything that somebody else wrote is escaped."""
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=select_autoescape(["j2", "html"])
    )
    cards = [
        ("orders", f"{total(summary.table('orders'), 2):,}"),
        ("rule breaches that denied", f"{total(summary.table('rejections'), 1):,}"),
        ("uses of the kill switch", f"{len(summary.table('kill_switch').rows):,}"),
        ("changes of limits", f"{len(summary.table('limit_changes').rows):,}"),
        ("alarms", f"{len(summary.table('alarms').rows):,}"),
    ]
    page: str = environment.get_template("trail_report.html.j2").render(
        s=summary, cards=cards, verified=verified, picture=picture(summary.table("latency")), most=MOST_ROWS,
        regulation=REGULATION, text=to_text, when=lambda moment: moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M"),
    )  # fmt: skip
    return page


def to_text(value: Any) -> str:
    """A cell."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "")
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def picture(latency: Table) -> str:
    """Decisions and their latency over the span, PNG in base64; "" where nothing was decided."""
    if not latency.rows:
        return ""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.5), layout="constrained")
    counted, over_time = figure.subplots(2, 1, sharex=True)
    at = [row[0] for row in latency.rows]
    counted.step(at, [row[1] for row in latency.rows], where="post", color="#264653")
    counted.set_ylim(bottom=0)
    counted.set_ylabel("decisions")
    for column, label, colour in ((2, "p50", "#2a9d8f"), (4, "p99", "#e76f51"), (6, "worst", "#d1495b")):
        over_time.plot(at, [row[column] for row in latency.rows], ".-", label=label, color=colour, linewidth=1.2)
    over_time.set_yscale("log")
    over_time.yaxis.set_major_formatter("{x:g}")
    over_time.yaxis.set_minor_formatter("{x:g}")
    over_time.set_ylabel("ms, from sending a tick to its decision")
    over_time.legend(loc="upper right", fontsize=8, ncols=3)
    for axes in (counted, over_time):
        axes.grid(alpha=0.3)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return base64.b64encode(file.getvalue()).decode()

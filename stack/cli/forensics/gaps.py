"""`ultrathink forensics gaps`: offsets without a record, each explained."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from stack.cli.forensics.command import JsonOption, app
from stack.cli.output import coloured, out, print_json, table
from trading.errors import ConfigurationError

if TYPE_CHECKING:
    from services.forensics.gaps import GapRun, LogGaps


@app.command(epilog="Example: ultrathink forensics gaps --topic trading.decisions --each gaps.csv")
def gaps(
    topic: Annotated[list[str] | None, typer.Option(help="Of the trail; may be repeated. Default: all.")] = None,
    each: Annotated[Path | None, typer.Option(help="Write every gap here, CSV.")] = None,
    json: JsonOption = False,
) -> None:
    """Explain every offset without a record, up to the last that is on record.

    It is a transaction's end marker, an aborted record, or lies before what Kafka still holds. Each log is read
    twice from Kafka: as who sees what was committed, and as who sees all that was written. Committed records after
    the last on record are counted as newer: forensics puts them on record, where it runs. Exit code 1 where a
    committed record before it is not on record, or a record of the trail is not in Kafka.
    """
    from services.forensics.gaps import Gap
    from stack.cli.train import showing
    from stack.processes.settings import forensics_settings
    from stack.workflows.trail_gaps import explain_gaps

    settings = forensics_settings()
    if unknown := [name for name in topic or [] if name not in settings.roles()]:
        raise ConfigurationError(f"{unknown[0]!r} is not on the trail: name one of {', '.join(settings.roles())}")
    with showing("explaining gaps") as progress, written(each) as write_gap:
        found = explain_gaps(settings, topic or [], progress, write_gap)
    if json:
        print_json([{**msgspec.to_builtins(one), **{why.value: one.count(why) for why in Gap}} for one in found])
    else:
        tell(found)
    if any(one.wrong for one in found):
        raise typer.Exit(1)


@contextmanager
def written(path: Path | None) -> Iterator[Callable[[str, GapRun], None]]:
    """What writes a gap as a line of a file, which appears whole. Raises ConfigurationError."""
    if path is None:
        yield lambda *_: None
        return
    if not path.name or path.is_dir():
        raise ConfigurationError(f"--each {str(path)!r} is no file's name")
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["log", "first", "last", "why"])
            yield lambda log, run: writer.writerow([log, run.first, run.last, run.why.value])
        part.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def tell(found: Sequence[LogGaps]) -> None:
    """A line a log, and what should not be."""
    from services.forensics.gaps import WRONG, Gap

    rows = [
        [one.log, f"{one.records:,}", *(told(one.count(why), wrong=why in WRONG) for why in Gap), f"{one.newer:,}"]
        for one in found
        if not one.note
    ]
    heads = ["log", "records", "mark", "abort", "before", "lost", "extra", "newer"]
    out.print(table("", heads, rows, right=tuple(range(1, 8))))
    out.print(
        "mark: ends of transactions; abort: aborted records; before: before what Kafka holds; lost: committed and "
        "not on record; extra: on record and not in Kafka; newer: not on record yet"
    )
    for one in found:
        if one.note:
            out.print(f"{one.log} ({one.topic_id}), {one.records:,} records: {one.note}", markup=False)
    for line in [f"{one.log}: offsets {r.first} to {r.last}, {r.why.value}" for one in found for r in one.wrong][
        :20
    ]:
        out.print(line, markup=False)


def told(count: int, *, wrong: bool) -> str:
    """A number, red where it should be none."""
    return coloured("red", f"{count:,}") if wrong and count else f"{count:,}"

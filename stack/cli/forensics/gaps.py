"""`ultrathink forensics gaps`: offsets without a record, each explained."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated

import typer

from stack.cli.forensics.command import JsonOption, app, write
from stack.cli.output import coloured, out, print_json, table
from trading.errors import ConfigurationError

#: Runs that JSON holds of each log; a file holds all.
MOST_RUNS = 1000


@app.command(epilog="Example: ultrathink forensics gaps --topic trading.decisions --each gaps.csv")
def gaps(
    topic: Annotated[list[str] | None, typer.Option(help="Of the trail; may be repeated. Default: all.")] = None,
    each: Annotated[Path | None, typer.Option(help="Write every gap here, CSV.")] = None,
    json: JsonOption = False,
) -> None:
    """Explain every offset without a record: a transaction's end marker, an aborted record, or before Kafka's log.

    Each log is read twice from Kafka: as who sees what was committed, and as who sees all that was written. Exit
    code 1 where a committed record is not on record, or a record of the trail is not in Kafka.
    """
    from services.forensics.gaps import WRONG, Gap
    from stack.cli.train import showing
    from stack.processes.settings import forensics_settings
    from stack.workflows.trail_gaps import explain_gaps

    settings = forensics_settings()
    if unknown := [name for name in topic or [] if name not in settings.roles()]:
        raise ConfigurationError(f"{unknown[0]} is not on the trail: name one of {', '.join(settings.roles())}")
    with showing("explaining gaps") as progress:
        found = explain_gaps(settings, topic or [], progress)
    if each is not None:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["log", "first", "last", "why"])
        writer.writerows([one.log, run.first, run.last, run.why.value] for one in found for run in one.runs)
        write(each, text.getvalue().encode())
    if json:
        print_json(
            [
                {
                    "log": one.log, "records": one.records, **{why.value: one.count(why) for why in Gap},
                    "runs": one.runs[:MOST_RUNS], "more_runs": max(0, len(one.runs) - MOST_RUNS),
                }
                for one in found
            ]
        )  # fmt: skip
    else:
        rows = [
            [one.log, f"{one.records:,}", *(told(one.count(why), wrong=why in WRONG) for why in Gap)]
            for one in found
        ]
        heads = ["log", "records", "markers", "aborted", "before Kafka's log", "not on record", "only on record"]
        out.print(table("", heads, rows, right=tuple(range(1, 7))))
        for run in [f"{one.log}: offsets {r.first} to {r.last}" for one in found for r in one.wrong][:20]:
            out.print(run, markup=False)
    if any(one.wrong for one in found):
        raise typer.Exit(1)


def told(count: int, *, wrong: bool) -> str:
    """A number, red where it should be none."""
    return coloured("red", f"{count:,}") if wrong and count else f"{count:,}"

"""`ultrathink forensics report`: a span for people who supervise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stack.cli.forensics.command import JsonOption, app
from stack.cli.output import err, out, print_json


@app.command(epilog="Example: ultrathink forensics report --from 2026-11-01 --to 2026-11-30 --out november")
def report(
    since: Annotated[
        str, typer.Option("--from", help="Date or time of events, ISO 8601; UTC unless it says else.")
    ],
    until: Annotated[str | None, typer.Option("--to", help="The end; a date is in it. Default: now.")] = None,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the page and the CSV files.")] = Path(
        "trail-report"
    ),
    json: JsonOption = False,
) -> None:
    """Write what the desk did: orders, rejections by rule, kill switch, limits, latency, gaps; HTML and CSV.

    The page also says what RTS 6 article 28 and SEC 17a-4(f) ask of a trail, and which column holds it.
    """
    from stack.processes.settings import forensics_settings
    from stack.workflows.trail_report import to_span, write_report

    begin, end = to_span(since, until)
    with err.status("report") as status:
        made = write_report(forensics_settings(), begin, end, out_folder, status.update)
    if json:
        print_json(made)
        return
    out.print(
        f"{made.page}: {made.orders:,} orders, {made.rejections:,} rule breaches that denied, "
        f"{made.kill_switch_uses:,} uses of the kill switch, {made.limit_changes:,} changes of limits",
        markup=False,
        soft_wrap=True,
    )

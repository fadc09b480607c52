"""`ultrathink drill`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.output import coloured, err, out, print_json, table

if TYPE_CHECKING:
    from stack.drill.table import DrillReport

VERDICT = {True: ("green", "all of it held"), False: ("red", "something did not hold")}


def drill(
    healthy: Annotated[
        float, typer.Option(min=0.0, help="Minutes in which a healthy desk under load must alarm nobody.")
    ] = 10.0,
    only: Annotated[str, typer.Option(help="Just the faults whose name has these letters, and nothing else.")] = "",
    keep: Annotated[
        Path | None,
        typer.Option(help="Work in this folder, and leave logs, three boards as pictures and the backup there."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Hurt a desk of its own in every way that has an alert, and bring it back.

    A desk without a model, its release, a healthy desk, each fault with its alert, each process killed, backup,
    purge, restore, the same decisions. Needs Prometheus and Alertmanager; as root a disk is filled too. An hour.

    Exit code 1 when an alert did not come or did not go, somebody was told too late, something was lost, or a
    process came back too late.

    Example: ultrathink drill --healthy 0.5 --only "kill switch"
    """
    from stack.drill.run import main_folder, run_drill

    with tempfile.TemporaryDirectory(prefix="ultrathink-drill-") as folder, err.status("") as status:
        place = main_folder(keep or Path(folder) / "drill")
        report = run_drill(place, healthy * 60, only, status.update)
    if json:
        import msgspec

        print_json({**msgspec.to_builtins(report), "ok": report.ok})
    else:
        show_report(report)
    if not report.ok:
        raise typer.Exit(1)


def show_report(report: DrillReport) -> None:
    """A line an alert, a line a process, and what became of every tick."""
    columns = ["fault", "alert", "fired after s", "told after s", "cleared after s", ""]
    alerts = report.alerts()
    # A fault is named once.
    rows = [
        [fault if number == 0 or alerts[number - 1][0] != fault else "", *rest]
        for number, (fault, *rest) in enumerate(alerts)
    ]
    out.print(table("", columns, [painted(row) for row in rows], right=(2, 3, 4)))
    if killed := report.killed():
        columns = ["killed", "decides after s", "answers after s", "available", ""]
        out.print(table("", columns, [painted(list(row)) for row in killed], right=(1, 2, 3)))
    for sentence in report.sentences():
        out.print(sentence, markup=False, soft_wrap=True)
    out.print(f"{report.seconds / 60:.0f} min in all:", coloured(*VERDICT[report.ok]))


def painted(row: list[str]) -> list[str]:
    """Its verdict, the last, in its colour."""
    return [*row[:-1], coloured("green" if row[-1] == "held" else "red", row[-1])]

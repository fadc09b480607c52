"""`ultrathink chaos`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.output import coloured, err, out, print_json, table

if TYPE_CHECKING:
    from stack.chaos.table import ChaosReport


def chaos(
    kills: Annotated[int, typer.Option(min=0, help="SIGKILLs of the gateway at random moments.")] = 100,
    poison: Annotated[
        int, typer.Option(min=0, help="Messages of the flood of rubbish; 0 leaves it out.")
    ] = 1_000_000,
    faults: Annotated[bool, typer.Option(help="Hurt the servers and the group too.")] = True,
    seed: Annotated[int, typer.Option(help="Of the ticks and of the moments.")] = 1,
    loop: Annotated[
        bool, typer.Option("--loop", help="Instead: `demo --loop`, with each step of it killed once (12 minutes).")
    ] = False,
    keep: Annotated[Path | None, typer.Option(help="Work in this folder, and leave it: logs and topics.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Break a stack of its own on purpose, and compare with an undisturbed run byte for byte.

    Exit code 1 when anything was lost, repeated, out of order or different, or came back too late.

    Example: ultrathink chaos --kills 20 --poison 10000
    """
    from stack.workflows.chaos import run_chaos

    if loop:
        kill_steps(keep, seed, json=json)
        return
    with tempfile.TemporaryDirectory(prefix="ultrathink-chaos-") as folder, err.status("") as status:
        home = keep or Path(folder) / "home"
        report = run_chaos(home, seed, kills, poison, faults=faults, progress=status.update)
    if json:
        print_json(report)
    else:
        show_report(report)
    if not report.ok:
        raise typer.Exit(1)


def kill_steps(keep: Path | None, seed: int, *, json: bool) -> None:
    """The loop, hurt; exit code 1 where it does not close, or a step comes back too late, or twice."""
    from stack.cli.demo_loop import loop

    with tempfile.TemporaryDirectory(prefix="ultrathink-chaos-") as folder:
        loop(keep or Path(folder) / "home", keep=False, json=json, seed=seed)


def show_report(report: ChaosReport) -> None:
    """A line a fault, and how quick restarts were."""
    rows = [
        [
            row.fault,
            str(row.times),
            f"{row.verdict.ticks:,}",
            f"{row.verdict.letters:,}",
            str(row.verdict.missing),
            str(row.verdict.repeated),
            str(row.verdict.disordered),
            str(row.verdict.different),
            row.compared,
            "" if row.recovery_s is None else f"{row.recovery_s:.1f}",
            coloured("green", "held") if row.ok else coloured("red", "broken"),
        ]
        for row in report.rows
    ]
    columns = ["fault", "times", "ticks", "letters", "missing", "repeated", "disordered", "different", "compared",
               "back after s", "promise"]  # fmt: skip
    out.print(table("", columns, rows, right=(*range(1, 8), 9)))
    out.print(
        f"restart to first decision: p50 {report.restart_p50_s:.2f} s, max {report.restart_max_s:.2f} s "
        f"(goal 3 s); {report.seconds:.0f} s in all"
    )

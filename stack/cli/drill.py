"""`ultrathink drill`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.output import coloured, err, out, print_json, table

if TYPE_CHECKING:
    from stack.drill.alarms import Heard
    from stack.drill.table import DrillReport


def drill(
    healthy: Annotated[
        float, typer.Option(min=0.0, help="Minutes in which a healthy desk under load must alarm nobody.")
    ] = 10.0,
    only: Annotated[str, typer.Option(help="Just the faults whose name has these letters, and nothing else.")] = "",
    keep: Annotated[
        Path | None,
        typer.Option(help="Work in this folder, and leave logs, two boards as pictures and the backup there."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Hurt a desk of its own in every way that has an alert, and bring it back.

    A desk without a model, its release, a healthy desk, each fault with its alert, each process killed, backup,
    purge, restore, the same decisions. Needs Prometheus and Alertmanager; as root a disk is filled too. Three
    quarters of an hour. Exit code 1 when an alert did not come or did not go, somebody was told too late, something
    was lost, or a process came back too late.

    Example: ultrathink drill --healthy 0.5 --only "kill switch"
    """
    from stack.drill.run import main_folder, run_drill

    with tempfile.TemporaryDirectory(prefix="ultrathink-drill-") as folder, err.status("") as status:
        place = main_folder(keep or Path(folder) / "drill")
        report = run_drill(place, healthy * 60, only, status.update)
    if json:
        print_json({**as_dict(report), "ok": report.ok})
    else:
        show_report(report)
    if not report.ok:
        raise typer.Exit(1)


def as_dict(report: DrillReport) -> dict[str, object]:
    """Its fields, as JSON has them."""
    import msgspec

    found: dict[str, object] = msgspec.to_builtins(report)
    return found


def verdict(*, ok: bool) -> str:
    """One word."""
    return coloured("green", "held") if ok else coloured("red", "broken")


def show_report(report: DrillReport) -> None:
    """A line an alert, a line a process, and what became of every tick."""
    rows = [
        [
            told.fault if number == 0 else "", one.alert, seconds(one.fired_s), who(one), seconds(one.cleared_s),
            verdict(ok=told.ok) if number == 0 else "",
        ]
        for told in report.faults
        for number, one in enumerate(told.heard)
    ]  # fmt: skip
    columns = ["fault", "alert", "fired after s", "told after s", "cleared after s", ""]
    out.print(table("", columns, rows, right=(2, 3, 4)))
    if report.recoveries:
        back = [[r.process, seconds(r.decided_s), seconds(r.ready_s), share(report, r.process), verdict(ok=r.ok)]
                for r in report.recoveries]  # fmt: skip
        out.print(
            table("", ["killed", "decides after s", "answers after s", "available", ""], back, right=(1, 2, 3))
        )
    alarmed = ", ".join(report.alarmed) or "nobody was alarmed"
    out.print(f"healthy for {report.healthy_s:.0f} s at {report.healthy_per_s:.0f} ticks/s: {alarmed}")
    if (sums := report.counted) is not None:
        out.print(
            f"{sums.ticks:,} messages: {sums.decisions:,} decisions, {sums.letters:,} dead letters, {sums.missing} "
            f"missing, {sums.repeated} repeated, {sums.disordered} out of order: {verdict(ok=sums.ok)}"
        )
    if (again := report.restored) is not None:
        out.print(
            f"put aside {again.backup_mb:,.0f} MB in {again.backup_s:.0f} s, restored in {again.restore_s:.0f} s: "
            f"{again.different} of {again.decisions:,} decisions differ ({again.undecided} lay undecided), "
            f"the trail is {'' if again.verified else 'not '}what was signed: {verdict(ok=again.ok)}"
        )
    for told in report.faults:
        if told.problem:
            out.print(f"{told.fault}: {told.problem}", markup=False, soft_wrap=True)
    for what in report.left_out:
        out.print(f"not made: {what}", markup=False)
    out.print(f"{report.seconds / 60:.0f} min in all")


def seconds(value: float | None) -> str:
    """Or that it never was."""
    return "never" if value is None else f"{value:.1f}"


def who(one: Heard) -> str:
    """How late somebody was told, or what kept it silent."""
    return f"by {', '.join(one.silenced_by)}" if one.told is None and one.silenced_by else seconds(one.told)


def share(report: DrillReport, process: str) -> str:
    """Of the drill in which it answered."""
    found = report.availability.get(process)
    return "" if found is None else f"{found:.2%}"

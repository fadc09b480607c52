"""`ultrathink export verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stack.cli.export.command import FactsOption, Places, TargetOption, TrustOption, command, working
from stack.cli.output import coloured, out, print_json, table

if TYPE_CHECKING:
    from exporters.parity.comparison import Flips
    from exporters.parity.decisions import Task
    from exporters.profiles import Container
    from exporters.target.findings import Finding
    from exporters.verify import ParityReport

#: What the column of decisions holds.
DECIDED: dict[Task, str] = {
    "action": "an action is the {how}",
    "label": "a label is the {how}",
    "value": "the rank correlation is Spearman's of the answers, the lowest of their columns",
}


@command("verify", "verify trading_decision --recorded skfolio:sp500 --plot parity.png")
def verify(
    places: Places,
    name: Annotated[str, typer.Argument(help="A model of the repository.")],
    version: Annotated[int | None, typer.Argument(help="Default: the released one.")] = None,
    recorded: Annotated[
        str | None, typer.Option(help="SOURCE of recorded ticks; default: a simulated market.")
    ] = None,
    rows: Annotated[Path | None, typer.Option(help="Rows of your own: .npy, .npz, .csv or .parquet.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Leave the served model out.")] = False,
    prove: Annotated[
        bool, typer.Option("--prove", help="Also run its file under the container's own runtime (installs it).")
    ] = False,
    target: TargetOption = "",
    facts: FactsOption = None,
    trust: TrustOption = False,
    log: Annotated[bool, typer.Option("--log/--no-log", help="Log the evidence to the model's MLflow run.")] = True,
    plot: Annotated[Path | None, typer.Option(help="Write the plot here, too.")] = None,
) -> None:
    """Compare source, file and served model. Exit code 1 when they differ by more than is allowed."""
    from msgspec.structs import asdict

    from exporters.plots import check_file, parity_figure
    from exporters.profiles import find
    from exporters.verify import verify as work

    if plot is not None:
        check_file(plot)
    repository = places.models()
    with working("verify") as progress:
        triton = None if offline else places.one()
        report = work(
            name, version, repository, triton, places.mlflow(), progress, recorded=recorded, rows=rows, trust=trust
        )
        if plot is not None:
            parity_figure(report, plot)
        proofs = prove_in_container(places, report, find(target, facts), progress) if prove else []
        if log:
            progress("log the evidence to MLflow")
            log_evidence(places, report, repository.lineage(name, report.version).run_ids)
    if places.json:
        print_json({**asdict(report), "container": proofs} if prove else report)
    else:
        show_report(report)
        for found in proofs:
            out.print(f"{found.check}: {found.verdict}: {found.seen}", markup=False)
    if not report.passed or any(f.verdict != "fits" for f in proofs):
        raise typer.Exit(1)


def prove_in_container(places: Places, report: ParityReport, target: Container, progress: Any) -> list[Finding]:
    """The version's file under the container's own runtime."""
    from exporters.target.container_proof import prove

    return prove(report.model, report.version, places.models(), target, progress)


def show_report(report: ParityReport) -> None:
    """The worst of each place and kind of rows."""
    from exporters.parity.decisions import HEADINGS

    rows = []
    for where in dict.fromkeys(d.where for d in report.differences):
        for kind in dict.fromkeys(d.rows for d in report.differences):
            found = [d for d in report.differences if (d.where, d.rows) == (where, kind)]
            flips = [f for f in report.flips if (f.where, f.rows) == (where, kind)]
            verdict = coloured("green", "passes") if all(d.passed for d in found) else coloured("red", "differs")
            rows.append([
                where, kind, ", ".join(str(n) for n in sorted({d.batch for d in found})),
                f"{max(d.relative for d in found):.1e}", f"{max(d.limit for d in found):.0e}",
                f"{max(d.max_abs for d in found):.1e}", str(max(d.max_ulp for d in found)),
                decided(report.task, flips), verdict,
            ])  # fmt: skip
    columns = [
        "where",
        "rows",
        "batches",
        "relative",
        "allowed",
        "absolute",
        "ULP",
        HEADINGS[report.task],
        "verdict",
    ]
    title = f"{report.model} {report.version} against {report.source}"
    out.print(table(title, columns, rows, right=(3, 4, 5, 6, 7)))
    served = f"served on {report.device}, TF32 off; " if report.device else ""
    out.print(f"{served}relative and allowed are shares of a row's largest number, or of the usual one")
    out.print(DECIDED[report.task].format(how=report.actions))
    spent = {"source": report.source_seconds, "file": report.file_seconds, "served": report.served_seconds}
    out.print("time spent on asking: " + ", ".join(f"{k} {v:.2f} s" for k, v in spent.items() if v))


def decided(task: Task, flips: list[Flips]) -> str:
    """What would be decided otherwise; of values, how alike they are ranked."""
    if task != "value":
        return f"{sum(f.flipped for f in flips)} of {sum(f.of for f in flips):,}"
    ranked = [f.rank_correlation for f in flips if f.rank_correlation is not None]
    return f"{min(ranked):.4f}" if ranked else "–"


def log_evidence(places: Places, report: ParityReport, run_ids: Any) -> None:
    """JSON and plot to every run that the version comes from."""
    import tempfile

    import msgspec

    from exporters.plots import parity_figure
    from exporters.sources.registry import log_evidence as send

    with tempfile.TemporaryDirectory() as folder:
        stem = Path(folder) / f"{report.model}-{report.version}"
        stem.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
        parity_figure(report, stem.with_suffix(".png"))
        for run_id in filter(None, dict.fromkeys(run_ids.values())):
            send(
                places.mlflow(),
                run_id,
                Path(folder),
                {"parity_max_abs_diff": report.max_abs_diff, "parity_flip_rate": report.flip_rate},
            )

"""`ultrathink train`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from stack.cli.output import err, out, print_json, table
from stack.workflows.training.settings import TrainRequest
from trading.users import current_user

app = typer.Typer(no_args_is_help=True, help="Train models from market history and register them in MLflow.")

DataOption = Annotated[
    list[str], typer.Option("--data", help="A SOURCE (more than once: merged), or a dataset's folder.")
]
BarsOption = Annotated[str, typer.Option(help="ticks, time:1m, tick:50, volume:10 or dollar:1e6.")]
Horizon = Annotated[
    str | None, typer.Option(help="How far labels look ahead, as 10s or 5d; default: ten mean distances of rows.")
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Use so many ticks only.")]
Uri = Annotated[str | None, typer.Option(help="MLflow; default: the stack's.", envvar="MLFLOW_TRACKING_URI")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of everything random.")]
Epochs = Annotated[int, typer.Option(min=1, help="Of each network, at most.")]
Folds = Annotated[int, typer.Option(min=1, help="Walk-forward test segments.")]
TeacherOption = Annotated[str, typer.Option(help="hmm, mixture, or auto: whichever predicts better.")]
Fee = Annotated[float, typer.Option(help="Basis points of the notional.")]
Slippage = Annotated[float, typer.Option(help="Basis points of the notional.")]
Spread = Annotated[float, typer.Option(help="Half spread in basis points, for a source without quotes.")]
Groups = Annotated[int, typer.Option(min=0, help="Combinatorial purged cross-validation: so many groups; 0: none.")]
Tested = Annotated[int, typer.Option(min=1, help="How many of the groups each split tests.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Rows a step; halved by itself where they do not fit.")]
Memory = Annotated[str | None, typer.Option(help="Ceiling of memory, as 6G: batches are halved to keep it.")]
LimitsOption = Annotated[
    Path | None, typer.Option("--limits", help="YAML of the desk, for the backtest; default: limits for research.")
]


@contextmanager
def showing(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr: the stage, how far it is, how long it takes yet."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn(title),
        TextColumn("{task.description}"),
        BarColumn(20),
        TextColumn("{task.fields[count]}"),
    )
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=err, transient=True) as bar:
        task, last = bar.add_task("", total=None, count=""), ""

        def show(stage: str, done: int, total: int) -> None:
            nonlocal last
            if stage != last:
                bar.reset(task, description=stage, total=total or None, count="")
                last = stage
            count = f"{done:,}" + (f" of {total:,}" if total else "") if done else ""
            bar.update(task, completed=done, total=total or None, count=count)

        yield show


@app.command("all", epilog="Example: ultrathink train all --data binance:BTCUSDT.gz --horizon 10s --fee-bps 5")
def train_all(
    data: DataOption = ["skfolio:sp500"],  # noqa: B006 - Typer copies it
    bars: BarsOption = "ticks",
    horizon: Horizon = None,
    limit: LimitOption = None,
    seed: SeedOption = 7,
    epochs: Epochs = 4,
    folds: Folds = 3,
    teacher: TeacherOption = "auto",
    fee_bps: Fee = 0.5,
    slippage_bps: Slippage = 0.5,
    half_spread_bps: Spread = 1.0,
    groups: Groups = 0,
    tested: Tested = 2,
    limits: LimitsOption = None,
    memory: Memory = None,
    precision: Annotated[str, typer.Option(help="fp32, or bf16 on a GPU.")] = "fp32",
    compiled: Annotated[str, typer.Option(help="torch.compile: auto, on or off.")] = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not go on where a killed training stopped.")] = False,
    batch_size: BatchSize = 1024,
    mlflow_uri: Uri = None,
    json: Json = False,
) -> None:
    """Train regime_detection, strategy_signals and meta_controller; register each as `challenger`.

    A training that was killed goes on where it was, to the same result: give the same command again.
    """
    from stack.workflows.training.train import train

    request = TrainRequest(
        tuple(data), bars, horizon, limit, seed, epochs, folds, teacher, fee_bps, slippage_bps, half_spread_bps,
        groups, tested, limits, memory, precision, compiled, fresh, mlflow_uri, batch_size,
    )  # fmt: skip
    with showing("train") as show:
        report = train(request, show)
    if json:
        print_json(report)
        return
    out.print(f"{report.verdict[0].upper()}{report.verdict[1:]}.", soft_wrap=True, markup=False)
    if report.resumed:
        out.print(f"Resumed: {report.resumed}.", soft_wrap=True, markup=False)
    rows = [
        [m.name, m.version, m.run_id, ", ".join(f"{k} {v:.4g}" for k, v in m.headline.items())]
        for m in report.models
    ]
    out.print(table("Registered as challenger", ["model", "version", "run", "out of sample"], rows))
    out.print(f"{report.rows:,} rows of {report.source} ({report.dropped} bad lines)", markup=False, soft_wrap=True)
    out.print(f"tear sheet: {report.sheet}", markup=False, soft_wrap=True)


@app.command(epilog='Example: ultrathink train promote --reason "beats equal weights since May"')
def promote(
    reason: Annotated[str, typer.Option(help="Recorded with the decision.")],
    version: Annotated[str, typer.Option(help="Alias, or a number that all three have.")] = "challenger",
    override: Annotated[
        list[str] | None, typer.Option(help="A gate's name that you take upon yourself; recorded.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the gates.")] = False,
    mlflow_uri: Uri = None,
    json: Json = False,
) -> None:
    """Make the challengers champions if they pass every gate; exit 1 where they do not."""
    from stack.servers.settings import load
    from stack.workflows.training import promote as promotions

    uri = mlflow_uri or load().mlflow_uri
    found = promotions.promote(uri, version, reason, current_user(), override or [], dry_run=dry_run)
    if json:
        print_json(found)
    else:
        rows = [
            [
                g.model,
                g.name,
                g.measured,
                g.wanted,
                "passed" if g.passed else "overridden" if g.overridden else "FAILED",
            ]
            for g in found.gates
        ]
        out.print(table("Gates", ["model", "gate", "measured", "wanted", ""], rows))
        named = ", ".join(f"{name} {number}" for name, number in found.versions.items())
        if found.promoted:
            out.print(f"champion: {named} (record {found.run_id})", soft_wrap=True)
        elif dry_run:
            out.print("nothing was changed", soft_wrap=True)
        else:
            out.print(f"refused: {named} (record {found.run_id})", soft_wrap=True)
    if not found.promoted and (not dry_run or any(not g.passed and not g.overridden for g in found.gates)):
        raise typer.Exit(1)


@app.command(epilog="Example: ultrathink train search --data binance:BTCUSDT.gz --trials 40 --jobs 4")
def search(
    data: DataOption = ["skfolio:sp500"],  # noqa: B006 - Typer copies it
    trials: Annotated[int, typer.Option(min=1, help="In all; those of an earlier run are counted.")] = 20,
    jobs: Annotated[int, typer.Option(min=1, help="At once, where memory and the GPU hold them.")] = 2,
    hold_out: Annotated[
        float, typer.Option(min=0.05, max=0.5, help="Last share of the time: no trial sees it; it judges the best.")
    ] = 0.25,
    bars: BarsOption = "ticks",
    horizon: Horizon = None,
    limit: LimitOption = None,
    seed: SeedOption = 7,
    fee_bps: Fee = 0.5,
    slippage_bps: Slippage = 0.5,
    half_spread_bps: Spread = 1.0,
    memory: Annotated[str | None, typer.Option(help="Budget of all experiments, as 16G.")] = None,
    mlflow_uri: Uri = None,
    json: Json = False,
) -> None:
    """Search hyperparameters, resumable; the best is trained, judged on the hold-out, and registered."""
    from stack.workflows.training.trials import search as run_search
    from trainers.trials.search import SearchSettings

    request = TrainRequest(
        tuple(data), bars, horizon, limit, seed, fee_bps=fee_bps, slippage_bps=slippage_bps,
        half_spread_bps=half_spread_bps, mlflow_uri=mlflow_uri,
    )  # fmt: skip
    with showing("search") as show:
        report = run_search(request, SearchSettings(trials, jobs, hold_out), memory, show)
    if json:
        print_json(report)
        return
    rows = [[name, str(value)] for name, value in report.found.parameters.items()]
    out.print(table(f"Best of {report.found.complete} trials", ["parameter", "value"], rows))
    out.print(
        f"{report.found.pruned} pruned, {report.found.failed} failed; mean t of its folds "
        f"{report.found.value:.3g}. On the hold-out: {report.training.verdict}",
        soft_wrap=True, markup=False,
    )  # fmt: skip


@app.command(epilog="Example: ultrathink train queue experiments.yaml --jobs 4 --memory 16G")
def queue(
    file: Annotated[
        Path, typer.Argument(help="YAML: a list of experiments, each with name and the options of `all`.")
    ],
    jobs: Annotated[int, typer.Option(min=1, help="At once, where memory and the GPU hold them.")] = 2,
    memory: Annotated[str | None, typer.Option(help="Budget of all experiments, as 16G.")] = None,
    mlflow_uri: Uri = None,
    json: Json = False,
) -> None:
    """Run many experiments, as many at once as fit; exit 1 where one did not finish."""
    from stack.workflows.training.trials import run_queue

    with showing("queue") as show:
        outcomes = run_queue(file, jobs, memory, mlflow_uri, show)
    if json:
        print_json(outcomes)
    else:
        rows: list[list[Any]] = [
            [o.name, f"{o.result.value:+.3g}" if o.result else "–", f"{o.seconds:.1f} s",
             f"{o.peak_bytes / 2**20:,.0f} MB", o.why]
            for o in outcomes
        ]  # fmt: skip
        out.print(table("Experiments", ["name", "mean t", "took", "memory", ""], rows, right=(1, 2, 3)))
    if any(o.result is None for o in outcomes):
        raise typer.Exit(1)


@app.command(epilog="Example: ultrathink train report --folder ../shared/data --out docs")
def report(
    folder: Annotated[Path, typer.Option(help="Where the recorded markets' files are.")],
    to: Annotated[Path, typer.Option("--out", help="Folder of models.md and its pictures.")] = Path("docs"),
    json: Json = False,
) -> None:
    """Train on every recorded market and write the out-of-sample tables and plots; nothing is registered."""
    from stack.workflows.training.report import report as write

    with showing("report") as show:
        verdicts = write(folder, to, show)
    if json:
        print_json({"page": str(to / "models.md"), "verdicts": verdicts})
        return
    for verdict in verdicts:
        out.print(f"{verdict[0].upper()}{verdict[1:]}.", soft_wrap=True, markup=False)
    out.print(f"page: {to / 'models.md'}", markup=False)

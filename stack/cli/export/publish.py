"""`ultrathink export model|pipeline|verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stack.cli.export.command import GpuOption, Places, TargetOption, command, working
from stack.cli.output import out, print_json, table

if TYPE_CHECKING:
    from exporters.export import PublishedVersion
    from exporters.options import Options
    from exporters.release.releases import Released
    from exporters.target.doctor import Finding
    from exporters.verify import ParityReport

FormatOption = Annotated[str, typer.Option("--format", help="onnx, torchscript or auto.")]
PrecisionOption = Annotated[
    str,
    typer.Option(
        help="fp32; fp16 or int8 for the weights of matrix products; fp64 for rows and arithmetic in double."
    ),
]
MaxBatchOption = Annotated[int | None, typer.Option(min=1, max=65536, help="Largest batch; default: 1024.")]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Open pickles too, in a process of their own: they run their author's code.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Do everything but publish.")]
ReleaseOption = Annotated[bool, typer.Option("--release", help="Release it too.")]


@command("model", "model fraud@champion --format onnx --max-batch 256 --release")
def model(
    places: Places,
    reference: Annotated[
        str,
        typer.Argument(help="NAME, NAME@ALIAS, NAME/VERSION, a models: or runs: URI, a file or an MLflow folder."),
    ],
    name: Annotated[str, typer.Option(help="Serve it under this name; default: its own.")] = "",
    variant: Annotated[str, typer.Option(help="Serve it as NAME_VARIANT.")] = "",
    format: FormatOption = "auto",  # noqa: A002
    precision: PrecisionOption = "fp32",
    max_batch: MaxBatchOption = None,
    target: TargetOption = "25.03-py3",
    gpu: GpuOption = "rtx5070",
    trust: TrustOption = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="Rows to calibrate int8 on: .npy, or .npz; default: like those logged.")
    ] = None,
    inputs: Annotated[
        str, typer.Option(help="matrix, or columns: a table with names as one input a column.")
    ] = "matrix",
    allow_tracer_warning: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="PyTorch: trace although it warns with this text; say it once for each."),
    ] = None,
    dry_run: DryRunOption = False,
    release: ReleaseOption = False,
) -> None:
    """Fetch a model, convert it, prove it against its source, publish it as a new version."""
    from msgspec.structs import replace

    from exporters.errors import ExportError
    from exporters.export import export_model

    made = make_options(places, name, variant, format, precision, max_batch, target, gpu, trust, dry_run)
    check_one_of("--inputs", inputs, ("matrix", "columns"))
    if calibrate is not None and precision != "int8":
        raise ExportError(f"--calibrate is for --precision int8, and the precision is {precision}")
    options = replace(
        made,
        calibrate=calibrate,
        tracer_warnings=tuple(allow_tracer_warning or ()),
        as_columns=inputs == "columns",
    )
    with working("export") as progress:
        done = [export_model(reference, options, places.models(), progress)]
        released = release_all(places, options, done, progress) if release and not dry_run else []
    show(places, done, released)


@command("pipeline", "pipeline trading_decision --fuse --release")
def pipeline(
    places: Places,
    name: Annotated[str, typer.Argument(help="The ensemble.")] = "trading_decision",
    alias: Annotated[
        str, typer.Option(help="MLflow alias of the steps; empty: their newest versions.")
    ] = "challenger",
    fuse: Annotated[bool, typer.Option("--fuse", help="Also as one ONNX graph, variant `fused`.")] = False,
    precision: PrecisionOption = "fp32",
    max_batch: MaxBatchOption = None,
    target: TargetOption = "25.03-py3",
    gpu: GpuOption = "rtx5070",
    trust: TrustOption = False,
    dry_run: DryRunOption = False,
    release: ReleaseOption = False,
) -> None:
    """Export the steps of an ensemble, and the ensemble with exactly these versions pinned."""
    from msgspec.structs import replace

    from exporters.export import export_pipeline

    made = make_options(places, "", "", "auto", precision, max_batch, target, gpu, trust, dry_run)
    options = replace(made, alias=alias)
    ratio = None
    with working("export") as progress:
        done = export_pipeline(name, options, places.models(), progress, fuse=fuse)
        released = release_all(places, options, done, progress) if release and not dry_run else []
        if fuse and released:
            ratio = compare_latency(places, released, progress)
    show(places, done, released, ratio)


@command("verify", "verify trading_decision --recorded skfolio:sp500 --plot parity.png")
def verify(
    places: Places,
    name: Annotated[str, typer.Argument(help="A model of the repository.")],
    version: Annotated[int | None, typer.Argument(help="Default: the released one.")] = None,
    recorded: Annotated[
        str | None, typer.Option(help="SOURCE of recorded ticks; default: a simulated market.")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option(help="Rows of your own: .npy, or .npz with an array an input.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Leave the served model out.")] = False,
    prove: Annotated[
        bool, typer.Option("--prove", help="Also run its file under the container's own runtime (installs it).")
    ] = False,
    target: TargetOption = "25.03-py3",
    trust: TrustOption = False,
    log: Annotated[bool, typer.Option("--log/--no-log", help="Log the evidence to the model's MLflow run.")] = True,
    plot: Annotated[Path | None, typer.Option(help="Write the plot here, too.")] = None,
) -> None:
    """Compare source, file and served model. Exit code 1 when they differ by more than is allowed."""
    from msgspec.structs import asdict

    from exporters.verify import verify as work

    repository = places.models()
    with working("verify") as progress:
        triton = None if offline else places.triton()
        report = work(
            name, version, repository, triton, places.mlflow(), progress, recorded=recorded, rows=rows, trust=trust
        )
        if plot is not None:
            from exporters.plots import parity_figure

            parity_figure(report, plot)
        proofs = prove_in_container(places, report, target, progress) if prove else []
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


def prove_in_container(places: Places, report: ParityReport, target: str, progress: Any) -> list[Finding]:
    """The version's file under the container's own runtime."""
    from exporters.profiles import find
    from exporters.target.container_proof import prove

    return prove(report.model, report.version, places.models(), find(target), progress)


def make_options(
    places: Places,
    name: str,
    variant: str,
    format_: str,
    precision: str,
    max_batch: int | None,
    target: str,
    gpu: str,
    trust: bool,
    dry_run: bool,
) -> Options:
    """Check what was given. Raises ExportError."""
    from exporters.options import Options
    from exporters.profiles import find, find_gpu

    check_one_of("--format", format_, ("onnx", "torchscript", "auto"))
    check_one_of("--precision", precision, ("fp32", "fp16", "fp64", "int8"))
    return Options(
        mlflow_uri=places.mlflow(),
        container=find(target),
        gpu=find_gpu(gpu),
        name=name,
        variant=variant,
        format=format_,  # type: ignore[arg-type]
        precision=precision,
        max_batch=max_batch,
        trust=trust,
        dry_run=dry_run,
    )


def check_one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    """Raise ExportError for another value."""
    from exporters.errors import ExportError

    if value not in known:
        raise ExportError(f"{what} {value!r}: expected {', '.join(known)}")


def release_all(places: Places, options: Options, done: list[PublishedVersion], progress: Any) -> list[Released]:
    """Release what was published; a pipeline's steps come with it.

    Raises what a release raises, with what is published nevertheless.
    """
    from trading.errors import UltraThinkError

    try:
        return released_all(places, options, done, progress)
    except UltraThinkError as error:
        there = ", ".join(f"{p.name} {p.version}" for p in done)
        raise type(error)(
            f"{error}; published, and not all released: {there} (`ultrathink export list`)"
        ) from error


def released_all(places: Places, options: Options, done: list[PublishedVersion], progress: Any) -> list[Released]:
    """Each, in order."""
    releases = places.releases(options.gpu, progress)
    ensembles = [p for p in done if p.format == "ensemble"]
    steps = {s for p in ensembles for s in places.models().lineage(p.name, p.version).steps}
    return [releases.release(p.name, p.version) for p in done if p.name not in steps]


def compare_latency(places: Places, released: list[Released], progress: Any) -> dict[str, float]:
    """The ensemble's latency over the fused graph's, measured alternately on the same server."""
    from exporters.performance.latency import compare
    from trading.models.signature import contract

    progress("compare the latency of the ensemble and the fused graph")
    ensemble, fused = ((contract(r.model), r.version) for r in released)
    triton = places.triton()
    return {f"batch {n}": compare(triton.address, ensemble, fused, batch=n, seconds=2.0).ratio_p50 for n in (1, 64)}


def show(
    places: Places, done: list[PublishedVersion], released: list[Released], ratio: dict[str, float] | None = None
) -> None:
    """What was published and released."""
    if places.json:
        print_json({"published": done, "released": released, "ensemble_to_fused_p50": ratio})
        return
    rows = [
        [p.name, str(p.version or "dry run"), p.format, p.precision, f"{p.parity_max_abs_diff:.1e}", p.source]
        for p in done
    ]
    columns = ["model", "version", "format", "precision", "parity in file", "source"]
    title = "Would be published" if any(not p.version for p in done) else "Published"
    out.print(table(title, columns, rows, right=(1, 4)))
    for p in done:
        if p.int8:
            out.print(in_eight_bits(p))
    if released:
        show_released(released)
    elif all(p.version for p in done):
        last = done[-1] if done[-1].format != "ONNX" or len(done) == 1 else done[-2]
        out.print(f"nothing serves it yet: ultrathink export release {last.name} {last.version}")
    for size, factor in (ratio or {}).items():
        out.print(f"{size}: the ensemble takes {factor:.2f} times as long as the fused graph (p50)")


def in_eight_bits(done: PublishedVersion) -> str:
    """What int8 costs and saves."""
    cost = done.int8
    share = {name: f"{value:.0%}" for name, value in cost.items()}
    return (
        f"{done.name} in int8: {cost['flip_rate']:.2%} of {cost['rows']:,.0f} rows decided otherwise, rank "
        f"correlation {cost['rank_correlation']:.4f}; of float32's, its weights take {share['weights_share']} of "
        f"the bytes, and on this CPU a batch of 1 takes {share['latency_share_1']} of the time, one of 64 "
        f"{share['latency_share_64']}"
    )


def show_released(released: list[Released]) -> None:
    """What is served now."""
    rows = [
        [r.model, str(r.version), str(r.previous or "none"), r.device, f"{r.parity_max_abs_diff:.1e}",
         f"{r.flip_rate:.2%}", f"{r.flip_seconds:.2f} s", f"{r.seconds:.2f} s"]
        for r in released
    ]  # fmt: skip
    columns = ["model", "now serves", "before", "on", "parity as served", "actions flipped", "flip", "in all"]
    out.print(table("Released" if released[0].action == "release" else "Rolled back", columns, rows, right=(1, 2)))
    for r in released:
        if r.alone:
            out.print(f"{r.model} {r.version} is served alone: {r.alone}", markup=False)


def show_report(report: ParityReport) -> None:
    """The worst of each place and kind of rows."""
    rows = []
    for where in dict.fromkeys(d.where for d in report.differences):
        for kind in dict.fromkeys(d.rows for d in report.differences):
            found = [d for d in report.differences if (d.where, d.rows) == (where, kind)]
            flips = [f for f in report.flips if (f.where, f.rows) == (where, kind)]
            verdict = "[green]passes[/]" if all(d.passed for d in found) else "[red]differs[/]"
            rows.append([
                where, kind, ", ".join(str(n) for n in sorted({d.batch for d in found})),
                f"{max(d.max_abs for d in found):.1e}", f"{max(d.max_rel for d in found):.1e}",
                str(max(d.max_ulp for d in found)),
                f"{sum(f.flipped for f in flips)} of {sum(f.of for f in flips):,}", verdict,
            ])  # fmt: skip
    columns = ["where", "rows", "batches", "max abs", "max rel", "max ULP", "actions flipped", "verdict"]
    title = f"{report.model} {report.version} against {report.source}"
    out.print(table(title, columns, rows, right=(3, 4, 5, 6)))
    allowed = ", ".join(f"{where} {share:.0e}" for where, share in report.tolerance.items())
    served = f"served on {report.device}, TF32 off; " if report.device else ""
    out.print(f"{served}allowed, as a share of a row's largest number or the usual one: {allowed}")
    out.print(f"an action is the {report.actions}")
    spent = {"source": report.source_seconds, "file": report.file_seconds, "served": report.served_seconds}
    out.print("time spent on asking: " + ", ".join(f"{k} {v:.2f} s" for k, v in spent.items() if v))


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

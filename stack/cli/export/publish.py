"""`ultrathink export model|pipeline`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stack.cli.export.command import FactsOption, GpuOption, Places, TargetOption, TrustOption, command, working
from stack.cli.output import err, out, print_json, table

if TYPE_CHECKING:
    from exporters.export import PublishedVersion
    from exporters.options import Options
    from exporters.profiles import Container
    from exporters.release.released import Released

ReferenceArgument = Annotated[
    str, typer.Argument(help="NAME, NAME@ALIAS, NAME/VERSION, a models: or runs: URI, a file or an MLflow folder.")
]
FormatOption = Annotated[str, typer.Option("--format", help="onnx, torchscript or auto.")]
PrecisionOption = Annotated[
    str,
    typer.Option(
        help="fp32; fp16 or int8 for the weights of matrix products; fp64 for rows and arithmetic in double."
    ),
]
MaxBatchOption = Annotated[int | None, typer.Option(min=1, max=65536, help="Largest batch; default: 1024.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Do everything but publish.")]
DeclaredOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME:DTYPE[SHAPE]",
        help="An input of a model without a signature, by one row's shape; say it once for each.",
    ),
]
InputsOption = Annotated[str, typer.Option(help="matrix, or columns: a table with names as one input a column.")]
SampleOption = Annotated[
    Path | None,
    typer.Option(help="Rows like the model's own: .npy, .npz, .csv or .parquet. They tell its inputs."),
]
CalibrateOption = Annotated[
    Path | None,
    typer.Option(help="Rows to calibrate int8 on, in a file as for --sample; default: like those logged."),
]
WarningOption = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="PyTorch: trace although it warns with this text; say it once for each."),
]
ReleaseOption = Annotated[bool, typer.Option("--release", help="Release it too.")]


@command("model", "model fraud@champion --format onnx --max-batch 256 --release")
def model(
    places: Places,
    reference: ReferenceArgument,
    name: Annotated[str, typer.Option(help="Serve it under this name; default: its own.")] = "",
    variant: Annotated[str, typer.Option(help="Serve it as NAME_VARIANT.")] = "",
    format: FormatOption = "auto",  # noqa: A002
    precision: PrecisionOption = "fp32",
    max_batch: MaxBatchOption = None,
    target: TargetOption = "",
    facts: FactsOption = None,
    gpu: GpuOption = "rtx5070",
    trust: TrustOption = False,
    calibrate: CalibrateOption = None,
    declared: DeclaredOption = None,
    sample: SampleOption = None,
    inputs: InputsOption = "matrix",
    allow_tracer_warning: WarningOption = None,
    dry_run: DryRunOption = False,
    release: ReleaseOption = False,
) -> None:
    """Fetch a model, convert it, prove it against its source, publish it as a new version."""
    from msgspec.structs import replace

    from exporters.errors import ExportError
    from exporters.export import export_model
    from exporters.profiles import find
    from exporters.sources.declared import parse_input

    format = for_server(places, format)  # noqa: A001
    made = make_options(
        places, name, variant, format, precision, max_batch, find(target, facts), gpu, trust, dry_run
    )
    check_one_of("--inputs", inputs, ("matrix", "columns"))
    if calibrate is not None and precision != "int8":
        raise ExportError(f"--calibrate is for --precision int8, and the precision is {precision}")
    options = replace(
        made,
        calibrate=calibrate,
        inputs=tuple(map(parse_input, declared or ())),
        sample=sample,
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
    fuse: Annotated[
        bool, typer.Option("--fuse", help="Also as one graph, variant `fused`; for TorchServe that alone, always.")
    ] = False,
    precision: PrecisionOption = "fp32",
    max_batch: MaxBatchOption = None,
    target: TargetOption = "",
    facts: FactsOption = None,
    gpu: GpuOption = "rtx5070",
    trust: TrustOption = False,
    dry_run: DryRunOption = False,
    release: ReleaseOption = False,
) -> None:
    """Export the steps of an ensemble, and the ensemble with exactly these versions pinned."""
    from msgspec.structs import replace

    from exporters.export import export_pipeline
    from exporters.profiles import find

    served_alone = places.server == "torchserve"
    made = make_options(
        places, "", "", for_server(places, "auto"), precision, max_batch, find(target, facts), gpu, trust, dry_run
    )
    options = replace(made, alias=alias)
    ratio = None
    with working("export") as progress:
        # TorchServe joins no models: there the pipeline is one.
        done = export_pipeline(name, options, places.models(), progress, fuse=fuse, alone=served_alone)
        released = release_all(places, options, done, progress) if release and not dry_run else []
        if fuse and released and not served_alone:
            ratio = compare_latency(places, released, progress)
    show(places, done, released, ratio)


def for_server(places: Places, wanted: str) -> str:
    """The format that the server takes; says of TorchServe what whoever chooses it must know.

    Raises ExportError where another is asked for.
    """
    from exporters.errors import ExportError

    if places.server != "torchserve":
        return wanted
    if wanted == "onnx":
        raise ExportError("--format onnx: TorchServe serves TorchScript alone here")
    return "torchscript"


def make_options(
    places: Places,
    name: str,
    variant: str,
    format_: str,
    precision: str,
    max_batch: int | None,
    container: Container,
    gpu: str,
    trust: bool,
    dry_run: bool,
) -> Options:
    """Check what was given. Raises ExportError."""
    from exporters.options import Options
    from exporters.profiles import find_gpu

    check_one_of("--format", format_, ("onnx", "torchscript", "auto"))
    check_one_of("--precision", precision, ("fp32", "fp16", "fp64", "int8"))
    return Options(
        mlflow_uri=places.mlflow(),
        container=container,
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
    from exporters.errors import ExportError
    from trading.errors import UltraThinkError

    there = ", ".join(f"{p.name} {p.version}" for p in done)
    told = f"published, and not all released: {there} ({places.call('list')})"
    try:
        return released_all(places, options, done, progress)
    except UltraThinkError as error:
        raise type(error)(f"{error}; {told}") from error
    except OSError as error:
        what = f"{error.filename or 'a file or connection'}: {error.strerror or error}"
        raise ExportError(f"{what}; {told}") from error
    except KeyboardInterrupt:
        err.print(f"interrupted; {told}", markup=False, soft_wrap=True)
        raise


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
    address = places.tritons().each()[0].address
    return {f"batch {n}": compare(address, ensemble, fused, batch=n, seconds=2.0).ratio_p50 for n in (1, 64)}


def show(
    places: Places, done: list[PublishedVersion], released: list[Released], ratio: dict[str, float] | None = None
) -> None:
    """What was published and released."""
    if places.json:
        print_json({"published": done, "released": released, "ensemble_to_fused_p50": ratio})
        return
    rows = [
        [p.name, str(p.version or "dry run"), p.format, p.precision, judged(p), f"{p.parity_max_abs_diff:.1e}",
         p.source]
        for p in done
    ]  # fmt: skip
    columns = ["model", "version", "format", "precision", "parity in file", "absolute", "source"]
    title = "Would be published" if any(not p.version for p in done) else "Published"
    out.print(table(title, columns, rows, right=(1, 4, 5)))
    for p in done:
        if p.int8:
            out.print(in_eight_bits(p))
    if released:
        show_released(released)
    elif all(p.version for p in done):
        last = done[-1] if done[-1].format != "ONNX" or len(done) == 1 else done[-2]
        released_by = f"{places.call(f'release {last.name} {last.version}')} makes it the champion"
        out.print(
            f"nothing serves it yet: {released_by}, and an experiment compares it first (docs/experiments.md)",
            markup=False,
        )
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


def judged(found: PublishedVersion | Released) -> str:
    """How far answers are off on the scale that they are judged on, and what is allowed there."""
    if not found.parity_limit:
        return "equal" if not found.parity_max_abs_diff else f"{found.parity_max_abs_diff:.1e}"
    return f"{found.parity_relative:.1e} of {found.parity_limit:.0e}"


def show_released(released: list[Released]) -> None:
    """What is served now."""
    from exporters.parity.decisions import HEADINGS, told

    rows = [
        [r.model, str(r.version), str(r.previous or "none"), r.device, judged(r), f"{r.parity_max_abs_diff:.1e}",
         told(r.task, r.flip_rate, r.rank_correlation), f"{r.flip_seconds:.2f} s", f"{r.seconds:.2f} s"]
        for r in released
    ]  # fmt: skip
    tasks = {r.task for r in released}
    differs = HEADINGS[tasks.pop()] if len(tasks) == 1 else "decided otherwise"
    columns = ["model", "now serves", "before", "on", "parity as served", "absolute", differs, "flip", "in all"]
    title = "Released" if released[0].action == "release" else "Rolled back"
    out.print(table(title, columns, rows, right=(1, 2, 4, 5, 6)))
    for r in released:
        if r.alone:
            out.print(f"{r.model} {r.version} is served alone: {r.alone}", markup=False)

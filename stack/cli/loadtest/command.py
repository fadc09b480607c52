"""What the load tests' commands share: the app, options, desks, progress, files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stack.cli.output import coloured, err, out, print_json, table

if TYPE_CHECKING:
    from loadtest.judging.targets import Target
    from loadtest.measuring.result import RunResult
    from loadtest.open_loop.drive import Progress as DriveProgress
    from stack.workflows.loadtest.load_target import LoadTarget

app = typer.Typer(
    no_args_is_help=True,
    help="Load with arrivals fixed beforehand, judged by targets. Exit code: 0 held, 1 missed, 2 proves nothing.",
)
VERDICTS = {
    "held": coloured("green", "held"),
    "missed": coloured("red", "missed"),
    "invalid": coloured("bold red", "invalid"),
    "": "",
}
#: Where runs are kept, below the stack's home.
RUNS = "loadtest"
MARKET = "simulate:regimes?ticks=100000&symbols=16"

DataOption = Annotated[str, typer.Option(help="A SOURCE; beyond its end it begins anew.")]
SpeedOption = Annotated[
    str, typer.Option(help="real, Nx, N/s, poisson:N/s, bursts:BASE/s,PEAK/s,EVERYs,LASTSs or max.")
]
Duration = Annotated[str, typer.Option(help="As 30s, 10m or 8h; the warm-up is part of it.")]
WarmUp = Annotated[float, typer.Option(min=0.0, help="Seconds at the beginning that do not count.")]
Targets = Annotated[
    Path | None, typer.Option(help="YAML of targets; default: loadtest/judging/targets.yaml.", dir_okay=False)
]
TargetName = Annotated[str, typer.Option("--target", help="Which of the targets judges.")]
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder of the results; default: a new one in the stack's home.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Embedded = Annotated[bool, typer.Option("--embedded", help="Bring up a desk of its own, and take it down.")]
Bootstrap = Annotated[str | None, typer.Option(help="Kafka; default: the stack's.")]
Remote = Annotated[bool, typer.Option("--allow-remote", help="The target may be on another machine.")]
Model = Annotated[
    str, typer.Option(help="What the embedded gateway asks: trading_decision, or its _fused variant.")
]
SeedOption = Annotated[int, typer.Option(help="Of Poisson's gaps.")]


def given(targets: Path | None) -> tuple[Path, ...]:
    """The targets' file as an argument, where one is given."""
    return () if targets is None else (targets,)


def seconds_of(text: str) -> float:
    """Read "30s", "10m", "8h" or plain seconds. Raises ConfigurationError."""
    import re

    from trading.errors import ConfigurationError

    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|)", text.strip())
    if match is None or float(match[1]) == 0.0:
        raise ConfigurationError(f"--duration {text!r}: expected a time above 0, as 30s, 10m or 8h")
    return float(match[1]) * {"s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}[match[2]]


def folder_of(wanted: Path | None) -> Path:
    """Where results go, and can be written: checked before a long run, not after it. Raises ConfigurationError."""
    from loadtest.report import fresh
    from stack.servers.settings import load
    from stack.supervision.ownership import claim
    from stack.workflows.loadtest.locust import USERS
    from trading.errors import ConfigurationError

    if wanted is None:
        home = load().absolute_home
        claim(home, [RUNS], alone=False)
        return home / RUNS / f"{datetime.now():%Y%m%d-%H%M%S-%f}"
    try:
        fresh(wanted, ["decision", "triton", *USERS.values()])
    except ConfigurationError as error:
        raise ConfigurationError(f"--out {error}") from error
    return wanted


def prepare(target: str, targets: Path | None, out_folder: Path | None) -> tuple[Target, Path]:
    """What judges, and where results go; both checked before anything starts."""
    from loadtest.judging.targets import pick

    return pick(target, *given(targets)), folder_of(out_folder)


@contextmanager
def desk_or(own: bool, bootstrap: str | None, *, allow_remote: bool, model: str) -> Iterator[LoadTarget]:
    """A desk of its own, or the one that runs."""
    from stack.workflows.loadtest.load_target import embedded, running

    alone(own, bootstrap, "--bootstrap")
    if not own:
        yield running(bootstrap, allow_remote=allow_remote, needs_gateway=True)
        return
    status = err.status("")
    with status, embedded(status.update, gateway_settings={"model_name": model}) as place:
        status.stop()
        yield place
        status.start()


def alone(own: bool, address: str | None, option: str) -> None:
    """A desk of its own has its own addresses. Raises ConfigurationError."""
    from trading.errors import ConfigurationError

    if own and address is not None:
        raise ConfigurationError(f"--embedded brings a desk of its own: leave {option} out")


@contextmanager
def shown(total: float | None, what: str) -> Iterator[Callable[[float, str], None]]:
    """A progress bar: so far, and what is said beside."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("", total=total, said="")
        yield lambda done, said: bar.update(task, completed=done, said=said)


def drive_shown(load: Any, place: LoadTarget, target: str, settings: dict[str, str]) -> RunResult:
    """A run of the driver with a progress bar."""
    import time

    from msgspec import structs

    from loadtest.open_loop.drive import drive

    began: list[float] = []
    with shown(load.duration_s if load.limit is None else load.limit, "ticks") as bar:

        def show(state: DriveProgress) -> None:
            if state.sent and not began:
                began.append(time.monotonic())
            done = state.sent if load.limit is not None else time.monotonic() - began[0] if began else 0.0
            bar(done, f"sent {state.sent:,}, decided {state.seen:,}, generator late {state.lag_ms:.1f} ms")

        return drive(
            structs.replace(load, bootstrap=place.bootstrap),
            target=target, servers=place.servers, settings=settings, show=show,
        )  # fmt: skip


def triton_shown(load: Any, place: LoadTarget, url: str | None = None) -> RunResult:
    """A run against Triton with a progress bar."""
    from msgspec import structs

    return calls_shown(structs.replace(load, address=url or place.triton_grpc), {} if url else place.servers)


def calls_shown(load: Any, servers: Mapping[str, int]) -> RunResult:
    """A run against a model server with a progress bar."""
    import time

    from loadtest.open_loop.calls import drive_model

    with shown(load.duration_s, "calls") as bar:
        began = time.monotonic()
        return drive_model(
            load,
            servers=servers,
            show=lambda sent, done: bar(time.monotonic() - began, f"sent {sent:,}, answered {done:,}"),
        )


def write_files(folder: Path, results: Sequence[RunResult], more: dict[str, str] | None = None) -> Path:
    """All files of the runs; returns the HTML report."""
    from loadtest.report import write_all

    with err.status("writing the report"):
        return write_all(folder, results, more)


def finish(results: list[RunResult], report_path: Path, *, json: bool) -> None:
    """Show the tables, exit with the worst verdict's code."""
    from loadtest.judging.gates import EXIT_CODES
    from loadtest.report import rows
    from loadtest.report.texts import COLUMNS, number, title

    if json:
        print_json(results[0] if len(results) == 1 else results)
    else:
        for result in results:
            body = [[f, goal, measured, VERDICTS[verdict]] for f, goal, measured, verdict in rows(result)]
            out.print(f"[bold]{title(result)}[/]: {VERDICTS.get(result.verdict, result.verdict)}")
            out.print(table("", list(COLUMNS), body, right=(2,)))
            out.print()
        if len(results) > 1:
            brief = [
                [r.target, number(r.latency.p50, "ms"), number(r.latency.p99, "ms"), number(r.latency.p99_9, "ms"),
                 number(r.error_ratio), VERDICTS.get(r.verdict, r.verdict)] for r in results
            ]  # fmt: skip
            out.print(table("", ["target", "p50", "p99", "p99.9", "errors", "verdict"], brief, right=(1, 2, 3, 4)))
        out.print(f"report: {report_path}; result, summary.md and junit.xml beside it")
    code = max(EXIT_CODES[r.verdict] for r in results)
    if code:
        raise typer.Exit(code)

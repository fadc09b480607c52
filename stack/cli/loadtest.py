"""`ultrathink loadtest`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stack.cli.output import err, out, print_json, table

if TYPE_CHECKING:
    from loadtest.driver.drive import Progress as DriveProgress
    from loadtest.result import Result
    from loadtest.targets import Target
    from stack.loadtest.places import Place

app = typer.Typer(
    no_args_is_help=True,
    help="Load with arrivals fixed beforehand, judged by targets. Exit code: 0 held, 1 missed, 2 proves nothing.",
)
VERDICTS = {"held": "[green]held[/]", "missed": "[red]missed[/]", "invalid": "[bold red]invalid[/]", "": ""}
#: Where runs are kept, below the stack's home.
RUNS = "loadtest"
MARKET = "simulate:regimes?ticks=100000&symbols=16"

Data = Annotated[str, typer.Option(help="A SOURCE; beyond its end it begins anew.")]
Speed = Annotated[str, typer.Option(help="real, Nx, N/s, poisson:N/s, bursts:BASE/s,PEAK/s,EVERYs,LASTSs or max.")]
Duration = Annotated[str, typer.Option(help="As 30s, 10m or 8h; the warm-up is part of it.")]
WarmUp = Annotated[float, typer.Option(min=0.0, help="Seconds at the beginning that do not count.")]
Targets = Annotated[
    Path | None, typer.Option(help="YAML of targets; default: loadtest/targets.yaml.", dir_okay=False)
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
Seed = Annotated[int, typer.Option(help="Of Poisson's gaps.")]


@app.command(epilog="Example: ultrathink loadtest kafka --data binance:BTCUSDT.gz --speed 1x --duration 60s")
def kafka(
    data: Data = MARKET,
    speed: Speed = "250/s",
    duration: Duration = "30s",
    limit: Annotated[int | None, typer.Option(min=1, help="Send so many ticks only.")] = None,
    warm_up: WarmUp = 5.0,
    seed: Seed = 0,
    target: TargetName = "decision",
    targets: Targets = None,
    embedded: Embedded = False,
    model: Model = "trading_decision",
    bootstrap: Bootstrap = None,
    allow_remote: Remote = False,
    out_folder: Out = None,
    json: Json = False,
) -> None:
    """Ticks at their times, and each decision as a read-committed reader sees it."""
    from loadtest.driver.drive import Load
    from loadtest.gates import judge

    goal, folder = prepare(target, targets, out_folder)
    load = Load("", data, speed, limit, seconds_of(duration), warm_up, seed)
    load.check()
    with desk_or(embedded, bootstrap, allow_remote=allow_remote, model=model) as place:
        result = judge(drive_shown(load, place, target, {"model": model} if embedded else {}), goal)
        report_path = write_files(folder, [result])
    finish([result], report_path, json=json)


@app.command(epilog="Example: ultrathink loadtest triton --speed poisson:500/s --batch 8")
def triton(
    speed: Speed = "200/s",
    batch: Annotated[int, typer.Option(min=1, help="Rows of a call.")] = 8,
    model: Annotated[str, typer.Option(help="Which model; it takes feature rows.")] = "trading_decision",
    version: Annotated[str, typer.Option(help="Default: the highest ready.")] = "",
    duration: Duration = "15s",
    warm_up: WarmUp = 3.0,
    data: Annotated[str, typer.Option(help="A SOURCE of feature rows.")] = "simulate:regimes?ticks=8000&symbols=4",
    seed: Seed = 0,
    target: TargetName = "triton",
    targets: Targets = None,
    embedded: Embedded = False,
    url: Annotated[str | None, typer.Option("--triton-url", help="Triton's gRPC; default: the stack's.")] = None,
    allow_remote: Remote = False,
    out_folder: Out = None,
    json: Json = False,
) -> None:
    """Calls of Triton's gRPC at their times; none waits for another."""
    from loadtest.gates import judge
    from loadtest.preflight import only_loopback
    from loadtest.triton import TritonLoad
    from stack.loadtest.places import running

    goal, folder = prepare(target, targets, out_folder)
    wanted = TritonLoad("", model, version, batch, speed, seconds_of(duration), warm_up, data, seed)
    wanted.check()
    if url is not None:
        only_loopback(url, allow_remote=allow_remote)
    if embedded:
        alone(embedded, url, "--triton-url")
        with desk_or(embedded, None, allow_remote=False, model=model) as place:
            result = judge(triton_shown(wanted, place), goal)
            report_path = write_files(folder, [result])
    else:
        place = running(None, allow_remote=False, needs_gateway=False)
        result = judge(triton_shown(wanted, place, url), goal)
        report_path = write_files(folder, [result])
    finish([result], report_path, json=json)


@app.command("all", epilog="Example: ultrathink loadtest all --data binance:BTCUSDT.gz --speed 1x")
def everything(
    data: Data = MARKET,
    speed: Speed = "250/s",
    duration: Duration = "30s",
    targets: Targets = None,
    out_folder: Out = None,
    json: Json = False,
) -> None:
    """Every gate on a desk of its own: ticks to decisions, Triton, each kind of Locust's users. `make loadtest`."""
    from loadtest.driver.drive import Load
    from loadtest.gates import judge
    from loadtest.targets import pick
    from loadtest.triton import TritonLoad
    from stack.loadtest.locust import USERS, locust

    for name in ("triton", *USERS.values()):
        pick(name, *given(targets))
    goal, folder = prepare("decision", targets, out_folder)
    load = Load("", data, speed, None, seconds_of(duration))
    load.check()
    results: list[Result] = []
    with desk_or(True, None, allow_remote=False, model="trading_decision") as place:
        results.append(judge(drive_shown(load, place, "decision", {}), goal))
        report_path = write_files(folder, results)
        results.append(judge(triton_shown(TritonLoad(""), place), pick("triton", *given(targets))))
        report_path = write_files(folder, results)
        with err.status("Locust") as status:
            results += locust(place, targets, lambda name: status.update(f"Locust: {name}"))
        # Written before the desk is taken down: what was measured is not lost with it.
        report_path = write_files(folder, results)
    finish(results, report_path, json=json)


@app.command(epilog="Example: ultrathink loadtest capacity --embedded --low 500 --high 40000")
def capacity(
    low: Annotated[float, typer.Option(help="Ticks a second to begin with.")] = 250.0,
    high: Annotated[float, typer.Option(help="Ticks a second beyond which nobody asks.")] = 50_000.0,
    precision: Annotated[float, typer.Option(min=0.01, max=1.0, help="How near to the limit, as a share.")] = 0.1,
    confirmations: Annotated[int, typer.Option(min=0, help="Runs at the limit that must hold too.")] = 2,
    duration: Duration = "15s",
    warm_up: WarmUp = 5.0,
    data: Data = MARKET,
    arrivals: Annotated[str, typer.Option(help="constant or poisson.")] = "constant",
    target: TargetName = "decision",
    targets: Targets = None,
    embedded: Embedded = False,
    model: Model = "trading_decision_fused",
    bootstrap: Bootstrap = None,
    allow_remote: Remote = False,
    out_folder: Out = None,
    json: Json = False,
) -> None:
    """The highest rate that keeps the gates, the curve of latency against load, and its knee."""
    from msgspec import json as msgspec_json

    from gateway.domain.errors import ConfigurationError
    from loadtest.capacity import Trial, search
    from loadtest.driver.drive import Load, drive
    from loadtest.gates import judge
    from loadtest.report.plots import curve_figure, encode
    from loadtest.report.texts import number
    from loadtest.result import write

    goal, folder = prepare(target, targets, out_folder)
    if arrivals not in {"constant", "poisson"}:
        raise ConfigurationError(f"--arrivals {arrivals!r}: expected constant or poisson")
    prefix = "poisson:" if arrivals == "poisson" else ""
    Load("", data, "1/s", None, seconds_of(duration), warm_up).check()
    kept: list[Result] = []

    def speed_of(rate: float) -> str:
        return f"{prefix}{rate:.3f}/s"

    def show(trial: Trial) -> None:
        told = "" if trial.verdict == "held" else f" ({', '.join(trial.broken)})"
        err.print(
            f"  {trial.rate:>10,.0f}/s  p50 {number(trial.p50_ms, 'ms'):>10}  p99 {number(trial.p99_ms, 'ms'):>10} "
            f" {VERDICTS[trial.verdict]}{told}"
        )

    with desk_or(embedded, bootstrap, allow_remote=allow_remote, model=model) as place, err.status("") as status:

        def run(rate: float) -> Result:
            status.update(f"{rate:,.0f} ticks/s")
            load = Load(place.bootstrap, data, speed_of(rate), None, seconds_of(duration), warm_up)
            kept.append(judge(drive(load, target=target, servers=place.servers), goal))
            return kept[-1]

        found = search(run, low=low, high=high, precision=precision, confirmations=confirmations, show=show)
        trials = found.trials
        picture = encode(curve_figure(
            [t.rate for t in trials], [t.p50_ms for t in trials], [t.p99_ms for t in trials],
            [t.verdict == "held" for t in trials], found.limit, found.knee,
        ))  # fmt: skip
        write(folder / "capacity.json", msgspec_json.format(msgspec_json.encode(found)).decode())
        # A trial of which nothing came has no result.
        at_limit = [r for r in kept if r.settings["speed"] == speed_of(found.limit)] or kept[:1]
        report = write_files(folder, at_limit[-1:], {"Latency against load": picture})
    if json:
        print_json(found)
    else:
        show_capacity(found)
        out.print(f"report: {report}")
    raise typer.Exit(0 if found.limit else 2 if found.trials[0].verdict == "invalid" else 1)


@app.command(epilog="Example: ultrathink loadtest compare model=trading_decision model=trading_decision_fused")
def compare(
    a: Annotated[
        str,
        typer.Argument(help="A result.json, or model=…,delivery=…,brokers=3,commit=REV, or default."),
    ],
    b: Annotated[str, typer.Argument(help="The other.")],
    speed: Speed = "500/s",
    turns: Annotated[int, typer.Option(min=1, help="Runs of each, in turns A B B A …")] = 5,
    duration: Duration = "15s",
    warm_up: WarmUp = 5.0,
    data: Data = MARKET,
    out_folder: Out = None,
    json: Json = False,
) -> None:
    """B over A, with an interval of confidence: two results, or two configurations run in turns."""
    from loadtest.compare import compare as ratios_of
    from loadtest.driver.drive import Load
    from loadtest.errors import InvalidRun
    from loadtest.gates import judge
    from loadtest.report.plots import encode, percentile_figure
    from loadtest.report.texts import number
    from loadtest.result import load as load_result
    from stack.loadtest.sides import Side, in_turns

    if a.endswith(".json") and b.endswith(".json"):
        # Read before the folder is cleared: it may be theirs.
        found = ([load_result(Path(a))], [load_result(Path(b))])
        comparable(found[0][0], found[1][0])
        folder = folder_of(out_folder)
        note = "two runs of different times: how runs differ is in the ratio, and not in its interval"
    else:
        sides = (Side.parse(a), Side.parse(b))
        load = Load("", data, speed, None, seconds_of(duration), warm_up)
        load.check()
        goal, folder = prepare("decision", None, out_folder)
        with err.status("") as status:
            measured = in_turns(sides, load, turns, status.update)
        found = ([judge(r, goal) for r in measured[0]], [judge(r, goal) for r in measured[1]])
        note = f"{turns} runs of each, in turns on this machine"
    ratios = ratios_of(*found)
    sided = {f"{'AB'[k]} {r.settings.get('turn', '')}".strip(): r.latency for k in (0, 1) for r in found[k]}
    pictures = {"Latency by percentile, each run": encode(percentile_figure(sided))}
    report_path = write_files(folder, [*found[0], *found[1]], pictures)
    undecided = [sum(r.error_ratio for r in side) / len(side) for side in found]
    invalid = [sum(r.verdict == "invalid" for r in side) for side in found]
    if json:
        print_json({
            "a": a, "b": b, "note": note, "ratios": ratios, "verdicts": [r.verdict for r in ratios],
            "error_ratio": undecided, "invalid_runs": invalid,
        })  # fmt: skip
    else:
        body = [
            [r.figure, number(r.a), number(r.b), f"{r.ratio:.3f}", f"{r.low:.3f} to {r.high:.3f}", r.verdict]
            for r in ratios
        ]
        body.append(["missing, repeated or undecided, share", *map(number, undecided), "", "", ""])
        out.print(f"A: {a}\nB: {b}\n{note}", highlight=False, markup=False)
        out.print(table("", ["figure", "A", "B", "B over A", "95 % interval", ""], body, right=(1, 2, 3, 4)))
        out.print(f"report: {report_path}")
    if any(invalid):
        raise InvalidRun(
            f"{invalid[0]} runs of A and {invalid[1]} of B prove nothing (see the report): neither does the ratio"
        )


def comparable(a: Result, b: Result) -> None:
    """Two results answer one question only where the same was asked. Raises ConfigurationError."""
    from gateway.domain.errors import ConfigurationError

    asked = [(r.target, r.settings.get("speed", ""), r.settings.get("batch", "")) for r in (a, b)]
    if asked[0] != asked[1]:
        told = [" ".join(filter(None, of)) for of in asked]
        raise ConfigurationError(f"A was {told[0]} and B {told[1]}: results of different loads do not compare")


@app.command(
    epilog="Example: ultrathink loadtest soak --embedded --duration 8h --speed 1x --data binance:BTCUSDT.gz"
)
def soak(
    duration: Duration = "8h",
    data: Data = MARKET,
    speed: Speed = "250/s",
    warm_up: WarmUp = 20.0,
    target: TargetName = "decision",
    targets: Targets = None,
    embedded: Embedded = False,
    model: Model = "trading_decision",
    bootstrap: Bootstrap = None,
    allow_remote: Remote = False,
    out_folder: Out = None,
    json: Json = False,
) -> None:
    """Long and steady, in constant memory: the gates, and whether latency or memory grows."""
    from loadtest.drift import judge_drift
    from loadtest.driver.drive import Load
    from loadtest.gates import judge

    goal, folder = prepare(target, targets, out_folder)
    load = Load("", data, speed, None, seconds_of(duration), warm_up)
    load.check()
    with desk_or(embedded, bootstrap, allow_remote=allow_remote, model=model) as place:
        result = judge_drift(judge(drive_shown(load, place, target, {}), goal), list(place.servers))
        report_path = write_files(folder, [result])
    finish([result], report_path, json=json)


@app.command(epilog="Example: ultrathink loadtest report result.json --target decision --out report")
def report(
    results: Annotated[list[Path], typer.Argument(help="result.json of one run or several.")],
    target: Annotated[str | None, typer.Option(help="Judge anew by this target.")] = None,
    targets: Targets = None,
    out_folder: Out = None,
    json: Json = False,
) -> None:
    """Write the table, Markdown, JUnit XML and the HTML report of kept results anew."""
    from loadtest.drift import JUDGED, judge_drift, judged_for_drift
    from loadtest.gates import judge
    from loadtest.result import load as load_result
    from loadtest.targets import pick

    found = [load_result(path) for path in results]
    if target is not None:
        goal = pick(target, *given(targets))
        soaks = [judged_for_drift(result) for result in found]
        found = [judge(result, goal) for result in found]
        found = [judge_drift(r, list(JUDGED)) if soak else r for r, soak in zip(found, soaks, strict=True)]
    finish(found, write_files(folder_of(out_folder), found), json=json)


@app.command("targets", epilog="Example: ultrathink loadtest targets --targets mine.yaml")
def show_targets(targets: Targets = None, json: Json = False) -> None:
    """Check a targets' file, and show what it asks."""
    import msgspec

    from loadtest.targets import read

    found = read(*given(targets))
    if json:
        print_json(found)
        return
    names = list(msgspec.structs.asdict(next(iter(found.values()))))
    shown = [
        [name, *("" if v is None else f"{v:g}" for v in msgspec.structs.asdict(t).values())]
        for name, t in found.items()
    ]
    out.print(table("", ["target", *names], shown, right=tuple(range(1, len(names) + 1))))


# ---- what the commands share ----------------------------------------------------------------


def given(targets: Path | None) -> tuple[Path, ...]:
    """The targets' file as an argument, where one is given."""
    return () if targets is None else (targets,)


def seconds_of(text: str) -> float:
    """Read "30s", "10m", "8h" or plain seconds. Raises ConfigurationError."""
    import re

    from gateway.domain.errors import ConfigurationError

    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|)", text.strip())
    if match is None or float(match[1]) == 0.0:
        raise ConfigurationError(f"--duration {text!r}: expected a time above 0, as 30s, 10m or 8h")
    return float(match[1]) * {"s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}[match[2]]


def folder_of(wanted: Path | None) -> Path:
    """Where results go, and can be written: checked before a long run, not after it. Raises ConfigurationError."""
    from gateway.domain.errors import ConfigurationError
    from loadtest.report import fresh
    from stack.loadtest.locust import USERS
    from stack.settings import load

    if wanted is None:
        return load().absolute_home / RUNS / f"{datetime.now():%Y%m%d-%H%M%S-%f}"
    try:
        fresh(wanted, ["decision", "triton", *USERS.values()])
    except ConfigurationError as error:
        raise ConfigurationError(f"--out {error}") from error
    return wanted


def prepare(target: str, targets: Path | None, out_folder: Path | None) -> tuple[Target, Path]:
    """What judges, and where results go; both checked before anything starts."""
    from loadtest.targets import pick

    return pick(target, *given(targets)), folder_of(out_folder)


@contextmanager
def desk_or(own: bool, bootstrap: str | None, *, allow_remote: bool, model: str) -> Iterator[Place]:
    """A desk of its own, or the one that runs."""
    from stack.loadtest.places import embedded, running

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
    from gateway.domain.errors import ConfigurationError

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


def drive_shown(load: Any, place: Place, target: str, settings: dict[str, str]) -> Result:
    """A run of the driver with a progress bar."""
    import time

    from msgspec import structs

    from loadtest.driver.drive import drive

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


def triton_shown(load: Any, place: Place, url: str | None = None) -> Result:
    """A run against Triton with a progress bar."""
    import time

    from msgspec import structs

    from loadtest.triton import drive_triton

    with shown(load.duration_s, "calls") as bar:
        began = time.monotonic()
        return drive_triton(
            structs.replace(load, address=url or place.triton_grpc),
            servers={} if url else place.servers,
            show=lambda sent, done: bar(time.monotonic() - began, f"sent {sent:,}, answered {done:,}"),
        )


def write_files(folder: Path, results: Sequence[Result], more: dict[str, str] | None = None) -> Path:
    """All files of the runs; returns the HTML report."""
    from loadtest.report import write_all

    with err.status("writing the report"):
        return write_all(folder, results, more)


def finish(results: list[Result], report_path: Path, *, json: bool) -> None:
    """Show the tables, exit with the worst verdict's code."""
    from loadtest.gates import EXIT_CODES
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


def show_capacity(found: Any) -> None:
    """In words."""
    why = {
        "gate": "beyond it a gate is missed",
        "generator": "beyond it the generator falls behind: the desk's own limit is higher",
        "samples": "beyond it a run has too few samples to say: give a longer --duration",
        "asked": "nothing higher was asked",
    }[found.bound]
    if found.limit:
        out.print(f"limit: [bold]{found.limit:,.0f}[/] ticks/s keep every gate; {why}")
    else:
        low = "not even the lowest rate keeps the gates"
        none = low if found.bound == "gate" else why.removeprefix("beyond it ")
        out.print(f"limit: [red]none[/]: {none}")
    if found.knee:
        out.print(f"knee: latency begins to climb at about {found.knee:,.0f} ticks/s")

"""`ultrathink loadtest capacity`, `compare`: many runs, one answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.loadtest.command import (
    MARKET,
    VERDICTS,
    Bootstrap,
    DataOption,
    Duration,
    Embedded,
    Json,
    Model,
    Out,
    Remote,
    SpeedOption,
    TargetName,
    Targets,
    WarmUp,
    app,
    desk_or,
    folder_of,
    prepare,
    seconds_of,
    write_files,
)
from stack.cli.output import err, out, print_json, table

if TYPE_CHECKING:
    from loadtest.judging.capacity import Capacity, Trial
    from loadtest.judging.compare import Ratio
    from loadtest.measuring.result import RunResult
    from loadtest.open_loop.drive import Load


@app.command(epilog="Example: ultrathink loadtest capacity --embedded --low 500 --high 40000")
def capacity(
    low: Annotated[float, typer.Option(help="Ticks a second to begin with.")] = 250.0,
    high: Annotated[float, typer.Option(help="Ticks a second beyond which nobody asks.")] = 50_000.0,
    precision: Annotated[float, typer.Option(min=0.01, max=1.0, help="How near to the limit, as a share.")] = 0.1,
    confirmations: Annotated[int, typer.Option(min=0, help="Runs at the limit that must hold too.")] = 2,
    duration: Duration = "15s",
    warm_up: WarmUp = 5.0,
    data: DataOption = MARKET,
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
    from loadtest.judging.capacity import search
    from loadtest.judging.gates import judge
    from loadtest.open_loop.drive import Load, drive

    goal, folder = prepare(target, targets, out_folder)
    speed_of = speeds(arrivals)
    Load("", data, "1/s", None, seconds_of(duration), warm_up).check()
    kept: list[RunResult] = []

    with desk_or(embedded, bootstrap, allow_remote=allow_remote, model=model) as place, err.status("") as status:

        def run(rate: float) -> RunResult:
            status.update(f"{rate:,.0f} ticks/s")
            load = Load(place.bootstrap, data, speed_of(rate), None, seconds_of(duration), warm_up)
            kept.append(judge(drive(load, target=target, servers=place.servers), goal))
            return kept[-1]

        found = search(run, low=low, high=high, precision=precision, confirmations=confirmations, show=show_trial)
        # A trial of which nothing came has no result.
        at_limit = [r for r in kept if r.settings["speed"] == speed_of(found.limit)] or kept[:1]
        keep(folder, found)
        report = write_files(folder, at_limit[-1:], {"Latency against load": curve_of(found)})
    if json:
        print_json(found)
    else:
        show_capacity(found)
        out.print(f"report: {report}")
    raise typer.Exit(0 if found.limit else 2 if found.trials[0].verdict == "invalid" else 1)


def keep(folder: Path, found: object) -> None:
    """Before a plot that fails could lose a search of hours."""
    from msgspec import json as msgspec_json

    from trading.files import write_atomically

    write_atomically(folder / "capacity.json", msgspec_json.format(msgspec_json.encode(found)).decode())


def speeds(arrivals: str) -> Callable[[float], str]:
    """What writes a rate as a speed. Raises ConfigurationError for arrivals of another kind."""
    from trading.errors import ConfigurationError

    if arrivals not in {"constant", "poisson"}:
        raise ConfigurationError(f"--arrivals {arrivals!r}: expected constant or poisson")
    prefix = "poisson:" if arrivals == "poisson" else ""
    return lambda rate: f"{prefix}{rate:.3f}/s"


def show_trial(trial: Trial) -> None:
    """A rate, as it was tried."""
    from loadtest.report.texts import number

    told = "" if trial.verdict == "held" else f" ({', '.join(trial.broken)})"
    err.print(
        f"  {trial.rate:>10,.0f}/s  p50 {number(trial.p50_ms, 'ms'):>10}  p99 {number(trial.p99_ms, 'ms'):>10} "
        f" {VERDICTS[trial.verdict]}{told}"
    )


def curve_of(found: Capacity) -> str:
    """Latency against load, as a picture."""
    from loadtest.report.plots import curve_figure, encode

    trials = found.trials
    return encode(curve_figure(
        [t.rate for t in trials], [t.p50_ms for t in trials], [t.p99_ms for t in trials],
        [t.verdict == "held" for t in trials], found.limit, found.knee,
    ))  # fmt: skip


def show_capacity(found: Capacity) -> None:
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


@app.command(epilog="Example: ultrathink loadtest compare model=trading_decision model=trading_decision_fused")
def compare(
    a: Annotated[
        str,
        typer.Argument(help="A result.json, or model=…,delivery=…,brokers=3,commit=REV, or default."),
    ],
    b: Annotated[str, typer.Argument(help="The other.")],
    speed: SpeedOption = "500/s",
    turns: Annotated[int, typer.Option(min=1, help="Runs of each, in turns A B B A …")] = 5,
    duration: Duration = "15s",
    warm_up: WarmUp = 5.0,
    data: DataOption = MARKET,
    out_folder: Out = None,
    json: Json = False,
) -> None:
    """B over A, with an interval of confidence: two results, or two configurations run in turns."""
    from loadtest.errors import InvalidRun
    from loadtest.judging.compare import compare as ratios_of
    from loadtest.measuring.result import load as load_result
    from loadtest.open_loop.drive import Load
    from loadtest.report.plots import encode, percentile_figure

    if a.endswith(".json") and b.endswith(".json"):
        # Read before the folder is cleared: it may be theirs.
        found = ([load_result(Path(a))], [load_result(Path(b))])
        comparable(found[0][0], found[1][0])
        folder = folder_of(out_folder)
        note = "two runs of different times: how runs differ is in the ratio, and not in its interval"
    else:
        load = Load("", data, speed, None, seconds_of(duration), warm_up)
        found, folder = measured_in_turns(a, b, load, turns, out_folder)
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
        out.print(f"A: {a}\nB: {b}\n{note}", highlight=False, markup=False)
        show_ratios(ratios, undecided)
        out.print(f"report: {report_path}")
    if any(invalid):
        raise InvalidRun(
            f"{invalid[0]} runs of A and {invalid[1]} of B prove nothing (see the report): neither does the ratio"
        )


def measured_in_turns(
    a: str, b: str, load: Load, turns: int, out_folder: Path | None
) -> tuple[tuple[list[RunResult], list[RunResult]], Path]:
    """Judged runs of two configurations, and the folder of their results; first it is said how long that takes."""
    from loadtest.judging.gates import judge
    from stack.workflows.loadtest.configuration import Configuration, in_turns, seconds_of_turns

    sides = (Configuration.parse(a), Configuration.parse(b))
    load.check()
    goal, folder = prepare("decision", None, out_folder)
    foretell(seconds_of_turns(sides, load, turns), turns)
    with err.status("") as status:
        measured = in_turns(sides, load, turns, status.update)
    return ([judge(r, goal) for r in measured[0]], [judge(r, goal) for r in measured[1]]), folder


def foretell(seconds: float, turns: int) -> None:
    """How long it takes, and what so many turns can show."""
    from loadtest.judging.compare import SPREADS, least_shown

    told = [f"of {name} {(least_shown(turns, spread) - 1.0) * 100:.0f} %" for name, spread in SPREADS.items()]
    shown = f"the smallest difference that they can show is {' and '.join(told)}, on a quiet machine"
    if turns == 1:
        shown = "one turn does not tell how runs differ, and shows no difference: give --turns 3 or more"
    err.print(f"{turns} runs of each take about {math.ceil(seconds / 60)} min; {shown}", soft_wrap=True)


def show_ratios(ratios: list[Ratio], undecided: list[float]) -> None:
    """B over A, figure by figure."""
    from loadtest.report.texts import number

    body = [
        [r.figure, number(r.a), number(r.b), f"{r.ratio:.3f}", f"{r.low:.3f} to {r.high:.3f}", r.verdict]
        for r in ratios
    ]
    body.append(["missing, repeated or undecided, share", *map(number, undecided), "", "", ""])
    out.print(table("", ["figure", "A", "B", "B over A", "95 % interval", ""], body, right=(1, 2, 3, 4)))


def comparable(a: RunResult, b: RunResult) -> None:
    """Two results answer one question only where the same was asked. Raises ConfigurationError."""
    from trading.errors import ConfigurationError

    asked = [(r.target, r.settings.get("speed", ""), r.settings.get("batch", "")) for r in (a, b)]
    if asked[0] != asked[1]:
        told = [" ".join(filter(None, of)) for of in asked]
        raise ConfigurationError(f"A was {told[0]} and B {told[1]}: results of different loads do not compare")

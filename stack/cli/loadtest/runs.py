"""`ultrathink loadtest kafka`, `triton`, `all`, `soak`: one desk, judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.loadtest.command import (
    MARKET,
    Bootstrap,
    DataOption,
    Duration,
    Embedded,
    Json,
    Model,
    Out,
    Remote,
    SeedOption,
    SpeedOption,
    TargetName,
    Targets,
    WarmUp,
    alone,
    app,
    calls_shown,
    desk_or,
    drive_shown,
    finish,
    given,
    prepare,
    seconds_of,
    triton_shown,
    write_files,
)
from stack.cli.output import err

if TYPE_CHECKING:
    from loadtest.measuring.result import RunResult


@app.command(epilog="Example: ultrathink loadtest kafka --data binance:BTCUSDT.gz --speed 1x --duration 60s")
def kafka(
    data: DataOption = MARKET,
    speed: SpeedOption = "250/s",
    duration: Duration = "30s",
    limit: Annotated[int | None, typer.Option(min=1, help="Send so many ticks only.")] = None,
    warm_up: WarmUp = 5.0,
    seed: SeedOption = 0,
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
    from loadtest.judging.gates import judge
    from loadtest.open_loop.drive import Load

    goal, folder = prepare(target, targets, out_folder)
    load = Load("", data, speed, limit, seconds_of(duration), warm_up, seed)
    load.check()
    with desk_or(embedded, bootstrap, allow_remote=allow_remote, model=model) as place:
        result = judge(drive_shown(load, place, target, {"model": model} if embedded else {}), goal)
        report_path = write_files(folder, [result])
    finish([result], report_path, json=json)


BatchOption = Annotated[int, typer.Option(min=1, help="Rows of a call.")]
FeaturesOption = Annotated[str, typer.Option(help="A SOURCE of feature rows.")]
FEATURES = "simulate:regimes?ticks=8000&symbols=4"
RowsOption = Annotated[
    Path | None,
    typer.Option(help="Rows of the model's own: .npy, .npz, .csv or .parquet; else they are made up."),
]


@app.command(epilog="Example: ultrathink loadtest triton --speed poisson:500/s --batch 8")
def triton(
    speed: SpeedOption = "200/s",
    batch: BatchOption = 8,
    model: Annotated[str, typer.Option(help="Any that Triton serves.")] = "trading_decision",
    version: Annotated[str, typer.Option(help="Default: the highest ready.")] = "",
    duration: Duration = "15s",
    warm_up: WarmUp = 3.0,
    data: FeaturesOption = FEATURES,
    rows: RowsOption = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:DIM,DIM", help="Dims of a row of an input that the server leaves open."),
    ] = None,
    seed: SeedOption = 0,
    target: TargetName = "triton",
    targets: Targets = None,
    embedded: Embedded = False,
    url: Annotated[str | None, typer.Option("--triton-url", help="Triton's gRPC; default: the stack's.")] = None,
    allow_remote: Remote = False,
    out_folder: Out = None,
    json: Json = False,
) -> None:
    """Calls of Triton's gRPC at their times; none waits for another."""
    from loadtest.judging.gates import judge
    from loadtest.measuring.preflight import only_loopback
    from loadtest.open_loop.calls import ModelLoad
    from loadtest.open_loop.rows import shapes_of
    from stack.workflows.loadtest.load_target import running

    goal, folder = prepare(target, targets, out_folder)
    wanted = ModelLoad(
        "", model, version, batch, speed, seconds_of(duration), warm_up, data, seed, rows=rows,
        shapes=shapes_of(shape or []),
    )  # fmt: skip
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


@app.command(epilog="Example: ultrathink loadtest torchserve --model trading_decision_fused --speed poisson:200/s")
def torchserve(
    speed: SpeedOption = "200/s",
    batch: BatchOption = 8,
    model: Annotated[str, typer.Option(help="One that TorchServe serves.")] = "trading_decision_fused",
    version: Annotated[str, typer.Option(help="Default: the one that is released.")] = "",
    duration: Duration = "15s",
    warm_up: WarmUp = 3.0,
    data: FeaturesOption = FEATURES,
    rows: RowsOption = None,
    seed: SeedOption = 0,
    target: TargetName = "torchserve",
    targets: Targets = None,
    url: Annotated[str | None, typer.Option("--torchserve-grpc", help="Its gRPC; default: the stack's.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with its token for inference; default: the stack's.")
    ] = None,
    allow_remote: Remote = False,
    out_folder: Out = None,
    json: Json = False,
) -> None:
    """Calls of TorchServe's gRPC at their times; none waits for another."""
    from loadtest.judging.gates import judge
    from loadtest.measuring.preflight import only_loopback
    from loadtest.open_loop.calls import ModelLoad
    from stack.servers.settings import INFERENCE_TOKEN, load
    from stack.servers.torchserve import inference_address
    from trading.errors import ConfigurationError

    goal, folder = prepare(target, targets, out_folder)
    if url is not None and token_file is None:
        raise ConfigurationError("--torchserve-grpc names another server: give the file with its --token-file too")
    stack = load()
    address = url or inference_address(stack)
    only_loopback(address, allow_remote=allow_remote)
    wanted = ModelLoad(
        address, model, version, batch, speed, seconds_of(duration), warm_up, data, seed, rows=rows,
        token_file=token_file or stack.absolute_home / "secrets" / INFERENCE_TOKEN,
    )  # fmt: skip
    wanted.check()
    result = judge(calls_shown(wanted, {}), goal)
    finish([result], write_files(folder, [result]), json=json)


@app.command("all", epilog="Example: ultrathink loadtest all --data binance:BTCUSDT.gz --speed 1x")
def everything(
    data: DataOption = MARKET,
    speed: SpeedOption = "250/s",
    duration: Duration = "30s",
    targets: Targets = None,
    out_folder: Out = None,
    json: Json = False,
) -> None:
    """Every gate on a desk of its own: ticks to decisions, Triton, each kind of Locust's users. `make loadtest`."""
    from loadtest.judging.gates import judge
    from loadtest.judging.targets import pick
    from loadtest.open_loop.calls import ModelLoad
    from loadtest.open_loop.drive import Load
    from stack.workflows.loadtest.locust import USERS, locust

    for name in ("triton", *USERS.values()):
        pick(name, *given(targets))
    goal, folder = prepare("decision", targets, out_folder)
    load = Load("", data, speed, None, seconds_of(duration))
    load.check()
    results: list[RunResult] = []
    with desk_or(True, None, allow_remote=False, model="trading_decision") as place:
        results.append(judge(drive_shown(load, place, "decision", {}), goal))
        report_path = write_files(folder, results)
        results.append(judge(triton_shown(ModelLoad(""), place), pick("triton", *given(targets))))
        report_path = write_files(folder, results)
        with err.status("Locust") as status:
            results += locust(place, targets, lambda name: status.update(f"Locust: {name}"))
        # Written before the desk is taken down: what was measured is not lost with it.
        report_path = write_files(folder, results)
    finish(results, report_path, json=json)


@app.command(
    epilog="Example: ultrathink loadtest soak --embedded --duration 8h --speed 1x --data binance:BTCUSDT.gz"
)
def soak(
    duration: Duration = "8h",
    data: DataOption = MARKET,
    speed: SpeedOption = "250/s",
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
    from loadtest.judging.drift import judge_drift
    from loadtest.judging.gates import judge
    from loadtest.open_loop.drive import Load

    goal, folder = prepare(target, targets, out_folder)
    load = Load("", data, speed, None, seconds_of(duration), warm_up)
    load.check()
    with desk_or(embedded, bootstrap, allow_remote=allow_remote, model=model) as place:
        result = judge_drift(judge(drive_shown(load, place, target, {}), goal), list(place.servers))
        report_path = write_files(folder, [result])
    finish([result], report_path, json=json)

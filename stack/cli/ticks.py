"""`ultrathink ticks`."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Literal

import typer

from connectors.kafka.topics import TOPICS
from stack.cli.output import err, out, print_json

app = typer.Typer(no_args_is_help=True, help="Feed recorded or simulated ticks.")


BootstrapOption = Annotated[
    str | None, typer.Option(help="Kafka; default: the stack's.", envvar="ULTRATHINK_KAFKA")
]


@app.command(epilog='Example: ultrathink ticks publish "simulate:crash?seed=3" --speed 4x --clock shifted')
def publish(
    source: Annotated[str, typer.Argument(help="A SOURCE: skfolio:sp500, binance:PATH.gz, csv:PATH, …")],
    speed: Annotated[str, typer.Option(help="real, Nx (8x), N/s (2000/s) or max.")] = "real",
    limit: Annotated[int | None, typer.Option(min=1, help="Send so many ticks only.")] = None,
    clock: Annotated[
        Literal["original", "shifted"], typer.Option(help="shifted: each tick happens when it is sent.")
    ] = "original",
    topic: Annotated[str, typer.Option()] = TOPICS.ticks,
    bootstrap: BootstrapOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Send a SOURCE to Kafka at its recorded gaps, faster, or as fast as possible."""
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from loadtest.open_loop.publisher import Published, TickPublisher
    from loadtest.open_loop.schedule import Speed, plan
    from stack.servers.settings import load
    from trading.history import open_source

    opened = open_source(source)
    publisher = TickPublisher(bootstrap or load().kafka_bootstrap, topic)
    planned = plan(islice(opened.records(), limit), Speed.parse(speed))
    columns = (
        TextColumn("publish {task.fields[source]}"),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=err, transient=True) as bar:
        task = bar.add_task("", total=limit, source=source, rate="")

        def show(done: Published) -> None:
            bar.update(task, completed=done.sent, rate=f"{done.sent / max(done.seconds, 1e-9):,.0f} ticks/s")

        done = publisher.publish(planned, shift_to_now=clock == "shifted", progress=show, keep_times=False)
    summary = {
        "source": source,
        "sent": done.sent,
        "seconds": round(done.seconds, 3),
        "worst_lag_ms": round(done.worst_lag_s * 1e3, 3),
        "bad_lines": opened.dropped.count,
    }
    if json:
        print_json(summary)
        return
    out.print(
        f"{done.sent:,} ticks in {done.seconds:.1f} s; sender late by {done.worst_lag_s * 1e3:.1f} ms at most"
    )
    for bad in opened.dropped.first:
        out.print(f"dropped line {bad.number}: {bad.reason}", markup=False)

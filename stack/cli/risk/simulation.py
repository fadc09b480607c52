"""`ultrathink risk simulate`: what other limits would have done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from stack.cli.output import err, out, print_json, table
from stack.cli.risk.command import Json, app, limit_set
from trading.decision import wire
from trading.errors import ConfigurationError


@app.command(epilog="Example: ultrathink risk simulate binance:BTCUSDT.gz --limits new.yaml")
def simulate(
    source: Annotated[
        str, typer.Argument(help="A SOURCE; decisions (of this stack); or decisions:FILE, JSON lines.")
    ],
    limits: Annotated[Path, typer.Option(help="The new limits, YAML.")],
    base: Annotated[Path | None, typer.Option(help="To compare with; default: those in force.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use so many ticks only.")] = None,
    plot: Annotated[Path, typer.Option(help="Where the plot goes.")] = Path("risk-simulation.png"),
    json: Json = False,
) -> None:
    """What new limits would have changed: on recorded decisions, or on ticks with a plain trend follower's targets.

    Both runs are decided by the gateway's own code; accepted orders count as filled.
    """
    import matplotlib as mpl  # noqa: F401 - before ticks are decided twice for a plot that cannot be drawn
    import msgspec

    from stack.workflows import risk_simulation as work

    if source == "decisions" or source.startswith("decisions:"):
        payloads, books = recorded(source, limit)
        parts = work.parts_of_decisions(payloads)
    else:
        from trading.history import open_source

        parts, books = work.parts_of_source(open_source(source), limit), 1
    new = limit_set(limits, books)
    old = limit_set(base, books)
    with err.status("deciding") as status:
        result, one, other = work.simulate(source, counted(parts, status), old, new)
    work.plot(plot, one, other)
    result = msgspec.structs.replace(result, plot=str(plot))
    if json:
        print_json(result)
    else:
        show_simulation(result)


def counted(parts: Iterator[Any], status: Any) -> Iterator[Any]:
    """Show how far it is."""
    seen = 0
    for part in parts:
        yield part
        seen += len(part.symbols)
        status.update(f"{seen:,} ticks decided twice")


def recorded(source: str, limit: int | None) -> tuple[Iterator[bytes], int]:
    """Payloads of recorded decisions, and how many books they are of."""
    from itertools import islice

    if source != "decisions":
        path = Path(source.partition(":")[2])
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
        partitions = {place[0] for line in lines if (place := wire.place_of(line)) is not None}
        return iter(lines[:limit]), max(1, len(partitions))
    from connectors.kafka.messages import as_bytes
    from connectors.kafka.reading import read_to_end
    from stack.processes.settings import gateway_settings
    from stack.servers.settings import load

    settings, partitions_of = gateway_settings(), load().partitions

    def read() -> Iterator[bytes]:
        for partition in range(partitions_of):
            for messages in read_to_end(settings.kafka_bootstrap, settings.decisions_topic, partition, 0):
                yield from (as_bytes(message.value()) or b"" for message in messages)

    return islice(read(), limit), partitions_of


def show_simulation(result: Any) -> None:
    """One screen."""
    from stack.workflows.explain import to_text

    a, b = result.base, result.new
    rows = [
        [name, f"{getattr(a, field):,.0f}", f"{getattr(b, field):,.0f}"]
        for name, field in (
            ("orders wanted", "wanted"), ("accepted", "accepted"), ("clipped", "clipped"), ("denied", "denied"),
            ("traded, money", "traded"), ("largest gross exposure", "max_gross"), ("profit", "profit"),
        )
    ]  # fmt: skip
    rows += [
        [f"broken: {rule}", f"{a.broken.get(rule, 0):,}", f"{b.broken.get(rule, 0):,}"]
        for rule in sorted({*a.broken, *b.broken})
    ]
    rows += [
        [f"most used: {rule}", f"{a.nearest.get(rule, 0.0):.0%}", f"{b.nearest.get(rule, 0.0):.0%}"]
        for rule in sorted({*a.nearest, *b.nearest})
    ]
    out.print(f"{result.source}: {result.ticks:,} ticks, {result.changed:,} decided differently", markup=False)
    out.print(table("", ["", f"before ({a.limits})", f"new ({b.limits})"], rows, right=(1, 2)))
    if result.first_changes:
        shown = [[c.symbol, to_text(c.event_time_ns), c.base, c.new] for c in result.first_changes]
        out.print(table("\nfirst changes", ["symbol", "at", "before", "new"], shown))
    out.print(f"plot: {result.plot}", soft_wrap=True)

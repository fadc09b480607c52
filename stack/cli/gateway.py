"""`ultrathink gateway`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from stack.cli import dlq
from stack.cli.output import err, out, print_json, table
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.users import current_user

app = typer.Typer(no_args_is_help=True, help="Decide ticks, and stop deciding them.")
app.add_typer(dlq.app, name="dlq")


@app.command(epilog="Example: ultrathink gateway run --budget-ms 20 --metrics-port 9109")
def run(
    budget_ms: Annotated[float | None, typer.Option(help="From sending a tick to its decision; then HOLD.")] = None,
    model: Annotated[
        str | None, typer.Option(help="trading_decision, or a variant as trading_decision_fused.")
    ] = None,
    model_version: Annotated[str | None, typer.Option(help="Pin this version; default: the newest ready.")] = None,
    group: Annotated[str | None, typer.Option(help="Consumer group.")] = None,
    delivery: Annotated[
        str | None, typer.Option(help="exactly-once (default), or at-least-once: sooner visible.")
    ] = None,
    instance: Annotated[
        str | None, typer.Option(help="Lasting name of this gateway in its group; default: host and number.")
    ] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Prometheus metrics on loopback.")] = None,
    limits: Annotated[
        Path | None, typer.Option(help="YAML; the limits of a desk that has none yet.", exists=False)
    ] = None,
    execution: Annotated[
        str | None, typer.Option(help="assumed (default): orders fill at once; broker: see `ultrathink broker`.")
    ] = None,
    kill_file: Annotated[Path | None, typer.Option(help="While this file exists the desk is killed.")] = None,
) -> None:
    """Decide ticks until SIGTERM or Ctrl-C, then drain. Settings: ULTRATHINK_GATEWAY_* too."""
    import signal
    import sys

    # While the rest is imported too: a gateway that is asked to end has not failed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from gateway.main import run as serve
    from stack.processes.settings import gateway_settings

    given = {
        "budget_ms": budget_ms,
        "model_name": model,
        "model_version": model_version,
        "group": group,
        "delivery": delivery,
        "instance": instance,
        "metrics_port": metrics_port,
        "limits_file": limits,
        "execution": execution,
        "kill_file": kill_file,
    }
    serve(gateway_settings(**given))


def control() -> Any:
    """What tells every gateway."""
    from gateway.control.control import Control
    from stack.processes.settings import gateway_settings

    settings = gateway_settings()
    return Control(settings.kafka_bootstrap, settings.topics.control, settings.redis_url.get_secret_value())


def latch(state_name: str, reason: str) -> None:
    """Set the desk's state and say so."""
    from trading.risk.trading_state import TradingState

    told = control()
    reach = told.latch(TradingState(state_name), reason, current_user())
    held = None if reach.failures else told.effective()
    if held is None or held.state == state_name:
        out.print(f"{state_name}: set by {current_user()} because {reason!r}; it stays until a human changes it")
    else:
        err.print(
            f"[yellow]the desk stays {held.state}[/], set by {escape(held.by)}: {escape(held.reason)}; "
            f"{state_name} is noted, and only `ultrathink gateway resume` ends the other"
        )
    for failure in reach.failures:
        err.print(f"[yellow]not told:[/] {escape(failure)}")


@app.command(epilog='Example: ultrathink gateway kill --reason "orders look wrong"')
def kill(reason: Annotated[str, typer.Option(help="Recorded with the state.")]) -> None:
    """The kill switch: no order from any gateway, not even an exit, until `resume`. Survives every restart.

    What works at the broker is cancelled; `ultrathink gateway stops` tells how soon it had ended.
    """
    latch("killed", reason)


@app.command(epilog='Example: ultrathink gateway halt --reason "feed looks wrong"')
def halt(reason: Annotated[str, typer.Option(help="Recorded with the state.")]) -> None:
    """No orders from any gateway until `resume`, but exits where the limits say so (halted_allows_exits).

    What works at the broker is cancelled, but for such exits; `ultrathink gateway stops` tells how soon.
    """
    latch("halted", reason)


@app.command(epilog='Example: ultrathink gateway reduce --reason "end of session"')
def reduce(reason: Annotated[str, typer.Option(help="Recorded with the state.")]) -> None:
    """Allow only orders that shrink a position."""
    latch("reducing", reason)


@app.command(epilog='Example: ultrathink gateway resume --reason "feed checked"')
def resume(reason: Annotated[str, typer.Option(help="Recorded with the state.")]) -> None:
    """Allow orders again."""
    latch("active", reason)


@app.command(epilog="Example: ultrathink gateway state --json")
def state(json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False) -> None:
    """The latched trading state, who set it and why."""
    latched = control().effective()
    if json:
        print_json(latched)
    else:
        out.print(f"{latched.state}" + (f", set by {latched.by}: {latched.reason}" if latched.by else ""))


@app.command(epilog="Example: ultrathink gateway stops --last 3 --json")
def stops(
    last: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Every halt and kill: by whom and why, which orders worked then, and how soon they had ended.

    Exit code 1 when an order of one of them is still open.
    """
    from datetime import UTC, datetime

    from gateway.control.stop_audit import read_stops
    from stack.processes.settings import gateway_settings

    settings = gateway_settings()
    found = read_stops(settings.kafka_bootstrap, settings.topics, last)
    if json:
        print_json(found)
    elif not found:
        out.print("the desk was never halted or killed")
    else:
        rows = [
            [
                datetime.fromtimestamp(one.at_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S"),
                one.state.value,
                *(str(count) for count in (one.orders, one.cancelled, one.filled, one.rejected, one.open)),
                *("-" if ms is None else f"{ms:,.0f}" for ms in (one.asked_ms, one.ended_ms)),
                f"{one.by}: {one.reason}",
            ]
            for one in found
        ]
        columns = [
            "UTC", "state", "orders", "cancelled", "filled", "rejected", "open", "asked ms", "ended ms", "by"
        ]  # fmt: skip
        out.print(table("", columns, rows, right=tuple(range(2, 9))))
    if any(one.open for one in found):
        raise typer.Exit(1)


@app.command(epilog='Example: ultrathink gateway drain --reason "new version"')
def drain(reason: Annotated[str, typer.Option(help="Recorded with the command.")]) -> None:
    """Every gateway finishes what it has read, commits it and ends."""
    control().command("drain", "", reason, current_user())
    out.print("every gateway was told to drain")


@app.command("log-level", epilog="Example: ultrathink gateway log-level debug --reason 'slow batches'")
def log_level(
    level: Annotated[str, typer.Argument(help="debug, info, warning or error.")],
    reason: Annotated[str, typer.Option(help="Recorded with the command.")],
) -> None:
    """Change the log level of every gateway, until it restarts."""
    from connectors.logs import LEVELS

    if level not in LEVELS:
        raise ConfigurationError(f"log level {level!r}: expected one of {', '.join(LEVELS)}")
    control().command("log_level", level, reason, current_user())
    out.print(f"every gateway was told to log from {level} on")


Address = Annotated[str | None, typer.Option(help="host:port of a gateway; default: this stack's.")]


def ask(address: str | None, path: str) -> Any:
    """What a gateway's HTTP side answers. Raises ServiceUnavailable."""
    import httpx

    from stack.processes.settings import gateway_settings

    settings = gateway_settings()
    where = address or f"{settings.metrics_host}:{settings.metrics_port}"
    try:
        return httpx.get(f"http://{where}{path}", timeout=2.0)
    except httpx.HTTPError as error:
        raise ServiceUnavailable(f"no gateway answers at {where}: {error}") from error


@app.command(epilog="Example: ultrathink gateway status --json")
def status(
    address: Address = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """What a running gateway does. Exit code 1 when it is not ready."""
    found = ask(address, "/status").json()
    if json:
        print_json(found)
    else:
        books = found.pop("books", {})
        out.print(table("", ["", ""], [[name, in_words(value)] for name, value in found.items()]))
        if books:
            columns = list(next(iter(books.values())))
            lines = [[place, *(in_words(book.get(name)) for name in columns)] for place, book in books.items()]
            heads = ["book of partition", *(name.replace("_", " ") for name in columns)]
            out.print(table("", heads, lines, right=(1, 2, 3, 4)))
    if not found["ready"]:
        raise typer.Exit(1)


def in_words(value: Any) -> str:
    """A value of a status, for people."""
    if isinstance(value, list):
        return ", ".join(map(in_words, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {in_words(one)}" for name, one in value.items()) or "none"
    if value is None:
        return "not known"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


@app.command(epilog="Example: ultrathink gateway top --once")
def top(
    address: Address = None,
    every_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option(help="One look, then end.")] = False,
) -> None:
    """A live view: ticks a second, latencies of the last interval, holds by reason, state. Ctrl-C ends it."""
    import time

    from rich.live import Live

    from stack.cli.top import view
    from stack.processes.scrape import Scrape

    def look() -> Scrape:
        return Scrape.of(ask(address, "/metrics").text, ask(address, "/status").json())

    before = look()
    time.sleep(every_s)
    with Live(console=out, screen=not once and out.is_terminal, refresh_per_second=4) as live:
        while True:
            now = look()
            live.update(view(before, now), refresh=True)
            if once:
                return
            before = now
            time.sleep(every_s)

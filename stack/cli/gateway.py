"""`ultrathink gateway`."""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer

from stack.cli.output import out, print_json

app = typer.Typer(no_args_is_help=True, help="Decide ticks, and stop deciding them.")


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
) -> None:
    """Decide ticks until SIGTERM or Ctrl-C, then drain. Settings: ULTRATHINK_GATEWAY_* too."""
    from gateway.main import run as serve

    given = {
        "budget_ms": budget_ms,
        "model_name": model,
        "model_version": model_version,
        "group": group,
        "delivery": delivery,
        "instance": instance,
        "metrics_port": metrics_port,
    }
    serve(gateway_settings(**{k: v for k, v in given.items() if v is not None}))


def gateway_settings(**given: Any) -> Any:
    """Flags, then the environment, then the stack of the home folder."""
    import os

    from pydantic import ValidationError

    from gateway.domain.errors import ConfigurationError
    from gateway.settings import GatewaySettings
    from stack.secrets import ensure_secret
    from stack.settings import load

    stack = load()
    values: dict[str, Any] = {}
    if (stack.absolute_home / "stack.json").is_file():
        values = {
            "kafka_bootstrap": stack.kafka_bootstrap,
            "triton_url": stack.triton_grpc,
            "redis_url": stack.redis_url,
            "metrics_port": stack.ports.gateway_metrics,
            "admin_token": ensure_secret(stack.absolute_home, "gateway-admin"),
        }
    values = {k: v for k, v in values.items() if f"ULTRATHINK_GATEWAY_{k.upper()}" not in os.environ}
    try:
        return GatewaySettings(**{**values, **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"setting {name}: {first['msg']} (given: {first['input']!r})") from None


def latch(state_name: str, reason: str) -> None:
    """Set the desk's state and say so."""
    from gateway.adapters import redis
    from gateway.domain.schemas import TradingState

    client = redis.connect(gateway_settings().redis_url.get_secret_value())
    latched = redis.write(client, TradingState(state_name), reason, getpass.getuser())
    out.print(f"{latched.state}: set by {latched.by} because {latched.reason!r}; it stays until a human changes it")


@app.command(epilog='Example: ultrathink gateway halt --reason "feed looks wrong"')
def halt(reason: Annotated[str, typer.Option(help="Recorded with the state.")]) -> None:
    """The kill switch: no orders from any gateway until `resume`. Survives restarts of everything."""
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
    from gateway.adapters import redis

    latched = redis.read(redis.connect(gateway_settings().redis_url.get_secret_value()))
    if json:
        print_json(latched)
    else:
        out.print(f"{latched.state}" + (f", set by {latched.by}: {latched.reason}" if latched.by else ""))

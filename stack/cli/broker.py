"""`ultrathink broker`."""

from __future__ import annotations

import os
import signal
import threading
from typing import Annotated, Any

import typer

from stack.cli.output import err, out
from trading.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True, help="A paper broker: accepted orders come back as fills.")


def broker_settings(**given: Any) -> Any:
    """Flags, then the environment, then the stack of the home folder."""
    from pydantic import ValidationError

    from services.paper_broker.settings import BrokerSettings
    from stack.servers.settings import load

    stack = load()
    values: dict[str, Any] = {}
    if (stack.absolute_home / "stack.json").is_file() and "ULTRATHINK_BROKER_KAFKA_BOOTSTRAP" not in os.environ:
        values["kafka_bootstrap"] = stack.kafka_bootstrap
    try:
        return BrokerSettings(**values, **{k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigurationError(f"setting {name}: {first['msg']} (given: {first['input']!r})") from None


@app.command(epilog="Example: ultrathink broker run --latency-ms 20 --partial-share 0.5")
def run(
    latency_ms: Annotated[float | None, typer.Option(help="From an order to its first report, at least.")] = None,
    jitter_ms: Annotated[float | None, typer.Option(help="Mean of what comes on top.")] = None,
    partial_share: Annotated[float | None, typer.Option(help="Of orders that fill in parts.")] = None,
    reject_share: Annotated[float | None, typer.Option(help="Of orders that are rejected.")] = None,
    slippage_bps: Annotated[float | None, typer.Option(help="How much worse than the reference price.")] = None,
    fee_bps: Annotated[float | None, typer.Option(help="Of what was traded.")] = None,
) -> None:
    """Answer orders until SIGTERM or Ctrl-C. Settings: ULTRATHINK_BROKER_* too.

    The gateway sends orders where ULTRATHINK_GATEWAY_EXECUTION is broker.
    """
    from services.paper_broker.broker import reports
    from services.paper_broker.exchange import PaperExchange

    settings = broker_settings(
        latency_ms=latency_ms, jitter_ms=jitter_ms, partial_share=partial_share, reject_share=reject_share,
        slippage_bps=slippage_bps, fee_bps=fee_bps,
    )  # fmt: skip
    stopping, terms = threading.Event(), settings.terms()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    exchange = PaperExchange(
        settings.kafka_bootstrap, settings.group, settings.orders_topic, settings.fills_topic,
        lambda order: reports(order, terms),
    )  # fmt: skip
    with err.status("waiting for orders") as status:
        sent = exchange.run(stopping, lambda count: status.update(f"{count:,} reports sent"))
    out.print(f"{sent:,} reports sent")

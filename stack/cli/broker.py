"""`ultrathink broker`."""

from __future__ import annotations

from typing import Annotated

import typer

from stack.cli.output import err, out

app = typer.Typer(no_args_is_help=True, help="A paper broker: accepted orders come back as fills.")


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
    from services.paper_broker.main import run as serve
    from stack.processes.settings import broker_settings

    settings = broker_settings(
        latency_ms=latency_ms, jitter_ms=jitter_ms, partial_share=partial_share, reject_share=reject_share,
        slippage_bps=slippage_bps, fee_bps=fee_bps,
    )  # fmt: skip
    with err.status("waiting for orders") as status:
        sent = serve(settings, lambda count: status.update(f"{count:,} reports sent"))
    out.print(f"{sent:,} reports sent")

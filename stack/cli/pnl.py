"""`ultrathink pnl`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from stack.cli.decisions import shown
from stack.cli.output import err, out, print_json, table
from stack.cli.positions import nothing, stands
from trading.errors import ConfigurationError

COLUMNS = ("symbol", "partition", "holds", "realised", "unrealised", "fees", "profit", "rate", "orders")
SPAN_COLUMNS = (
    "symbol",
    "since",
    "until",
    "opened with",
    "closed with",
    "orders",
    "traded",
    "fees",
    "profit",
    "by",
)


def pnl(
    symbol: Annotated[str, typer.Option(help="Only this instrument.")] = "",
    since: Annotated[
        str, typer.Option(help="From this time on, RFC 3339, as 2026-11-30T08:00:00Z: asks the data service.")
    ] = "",
    until: Annotated[str, typer.Option(help="To before this time; default: now.")] = "",
    address: Annotated[
        str, typer.Option(help="Of another data service, with the token in ULTRATHINK_DATA_TOKEN.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Profit and loss by symbol, marked to the latest mid, each in its own currency.

    Since the books began, from Kafka; of a span of time the data service is asked, which reads the audit trail.

    Example: ultrathink pnl --symbol BTCUSDT
    """
    if since or until:
        show_span(of_span(address, since=since, until=until, symbol=symbol), json=json)
        return
    if address:
        raise ConfigurationError("--address is of the data service, which is asked for a span: give --since")
    found = stands(symbol)
    if json:
        print_json(found)
        return
    lines = [
        [
            one.holding.symbol,
            str(one.partition),
            *(shown(value) for value in (one.holding.quantity, one.holding.realised, one.holding.unrealised)),
            *(shown(value) for value in (one.holding.fees, one.holding.profit, one.holding.rate)),
            f"{one.holding.orders:,}",
        ]
        for one in found.symbols
    ]
    out.print(table("", list(COLUMNS), lines, right=tuple(range(1, 9))))
    if lines:
        out.print(f"together, in the account's currency: {shown(found.profit)}", markup=False)
    else:
        err.print(nothing(found, symbol), markup=False)


def of_span(address: str, **asked: str) -> list[dict[str, Any]]:
    """What the data service says. Raises as its client."""
    import os

    from services.data.client import DataClient
    from stack.processes.settings import DATA_TOKEN
    from stack.servers.settings import LOOPBACK, load

    stack, token = load(), os.environ.get("ULTRATHINK_DATA_TOKEN", "")
    if not address:
        # The stack's own token is for the stack's own service, and for nobody else.
        address, token = f"http://{LOOPBACK}:{stack.ports.data}", token or stack.secret(DATA_TOKEN)
    with DataClient(address, token) as client:
        return client.pnl(**{name: value for name, value in asked.items() if value})


def show_span(found: list[dict[str, Any]], *, json: bool) -> None:
    """A row a symbol."""
    if json:
        print_json(found)
        return
    lines = [
        [
            one["symbol"],
            *(str(one[name])[:19] for name in ("since", "until")),
            *(shown(one[name]) for name in ("opening_position", "closing_position")),
            f"{one['orders']:,}",
            *(shown(one[name]) for name in ("traded", "fees", "profit")),
            "fills" if one["from_fills"] else "orders",
        ]
        for one in found
    ]
    out.print(table("", list(SPAN_COLUMNS), lines, right=tuple(range(3, 9))))
    if not found:
        err.print("nothing was decided in that span", markup=False)

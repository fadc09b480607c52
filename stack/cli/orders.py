"""`ultrathink orders`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.decisions import UNREAD, shown
from stack.cli.output import coloured, err, out, print_json, table

if TYPE_CHECKING:
    from stack.workflows.ordered import OrderRecord

#: Columns for people.
COLUMNS = (
    "UTC", "symbol", "state", "quantity", "filled", "left", "price", "average", "fees", "ended ms", "reason", "id"
)  # fmt: skip
COLOURS = {
    "working": "yellow", "cancelling": "yellow", "filled": "green", "rejected": "red", "cancelled": "white",
}  # fmt: skip


def orders(
    last: Annotated[int, typer.Option(min=1, max=100_000, help="So many.")] = 20,
    symbol: Annotated[str, typer.Option(help="Only of this instrument.")] = "",
    working: Annotated[bool, typer.Option("--working", help="Only those that the broker has not ended.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """The last orders, oldest first, each with what the broker said of it.

    Example: ultrathink orders --working --symbol BTCUSDT
    """
    from stack.processes.settings import gateway_settings
    from stack.workflows.ordered import OrderWanted, latest_orders

    settings = gateway_settings()
    topics = settings.topics
    with err.status(f"reading {topics.orders}"):
        found = latest_orders(settings.kafka_bootstrap, topics, last, OrderWanted(symbol, working))
    if json:
        print_json(found.records)
    elif found.records:
        out.print(table("", list(COLUMNS), [line(one) for one in found.records], right=(3, 4, 5, 6, 7, 8, 9)))
    else:
        err.print(
            f"{topics.orders} holds no such order; of a desk without a broker an order counts as filled when it is "
            "decided: `ultrathink decisions list --reason target`",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    if found.unread:
        err.print(f"{found.unread:,} {UNREAD.replace('decisions', 'orders')}", markup=False)


def line(one: OrderRecord) -> list[str]:
    """A row for people."""
    return [
        datetime.fromtimestamp(one.sent_ns / 1e9, UTC).strftime("%m-%d %H:%M:%S.%f")[:-3],
        one.symbol,
        coloured(COLOURS[one.state.value], one.state.value),
        *(shown(value) for value in (one.quantity, one.filled, one.left, one.price, one.average_price, one.fees)),
        "–" if one.ended_ms is None else f"{one.ended_ms:,.0f}",
        one.reason or "–",
        one.order_id,
    ]

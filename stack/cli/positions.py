"""`ultrathink positions`, and what it shares with `pnl`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.decisions import shown
from stack.cli.output import err, out, print_json, table

if TYPE_CHECKING:
    from stack.workflows.standing import Standing

COLUMNS = ("symbol", "partition", "holds", "buying", "selling", "average", "mark", "value", "orders")


def positions(
    symbol: Annotated[str, typer.Option(help="Only this instrument.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Those too that hold and work nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """What the desk holds, by symbol, and what its working orders would add.

    The books are rebuilt from Kafka as a gateway would, so no gateway need run.

    Example: ultrathink positions --all
    """
    found = stands(symbol)
    if json:
        print_json(found)
        return
    held = [
        one
        for one in found.symbols
        if everything or symbol or one.holding.quantity or one.holding.buying or one.holding.selling
    ]
    lines = [
        [
            one.holding.symbol,
            str(one.partition),
            *(shown(value) for value in (one.holding.quantity, one.holding.buying, one.holding.selling)),
            *(shown(value) for value in (one.holding.average_price, one.holding.mark, one.holding.value)),
            f"{one.holding.orders:,}",
        ]
        for one in held
    ]
    out.print(table("", list(COLUMNS), lines, right=tuple(range(1, 9))))
    if not held:
        err.print(nothing(found, symbol), markup=False)


def stands(symbol: str) -> Standing:
    """What the desk's books say. Raises as `gateway.books.read_books`."""
    from gateway.books import read_books
    from stack.processes.settings import gateway_settings
    from stack.workflows.standing import standing

    with err.status("reading the books") as status:
        books = read_books(
            gateway_settings(), lambda done, of: status.update(f"reading the books: {done} of {of} partitions")
        )
        return standing(books, symbol)


def nothing(found: Standing, symbol: str) -> str:
    """Why there is nothing to show."""
    if symbol:
        return f"the desk has never seen {symbol}"
    return "nothing is held, and no order works" if found.symbols else "nothing was decided yet"

"""A book's totals: moved, not added up again. Compiled; a function of the log alone.

A position leaves the totals as it was and joins them as it is, so that a book of a thousand symbols costs no
more than one of three.
"""

from __future__ import annotations

import math

from trading.compiled import entry, inline
from trading.portfolio.tables import BookTables
from trading.risk.engine import round_quantity
from trading.risk.measures import exposure_before, is_unpriced, worst_case_position
from trading.risk.model import Account, Position


@inline
def expected(position: Position) -> float:
    """Signed position when the working orders have filled, in units."""
    return round_quantity(position.quantity + position.buying - position.selling)


@inline
def worth(position: Position) -> float:
    """Of what the position earned and holds, in the account's currency."""
    held = position.quantity * position.mark if position.quantity != 0.0 else 0.0
    return (position.cash + held) * position.rate if position.cash + held != 0.0 else 0.0


@inline
def leave_totals(position: Position, account: Account) -> None:
    """Take the position out of the totals, before it changes."""
    if is_unpriced(position):
        account.unpriced -= 1
    else:
        account.gross -= exposure_before(position)
        account.worth -= worth(position)
        if worst_case_position(position) > 0.0:
            account.net -= expected(position) * position.mark * position.rate


@inline
def join_totals(position: Position, account: Account) -> None:
    """Put it back, after it has changed."""
    if is_unpriced(position):
        account.unpriced += 1
    else:
        account.gross += exposure_before(position)
        account.worth += worth(position)
        if worst_case_position(position) > 0.0:
            account.net += expected(position) * position.mark * position.rate


@entry
def recount(book: BookTables) -> None:
    """Add the totals up anew: the limits, and with them capital and rates, have changed."""
    account = book.account[0]
    account.gross = account.net = account.worth = 0.0
    account.unpriced = 0
    for row in range(account.rows):
        join_totals(book.positions[row], account)
        reweigh(book, row)


@inline
def reweigh(book: BookTables, row: int) -> None:
    """Count the position's present exposure in the scenarios."""
    position = book.positions[row]
    now = expected(position) * position.mark * position.rate if worst_case_position(position) > 0.0 else 0.0
    more = (0.0 if math.isnan(now) else now) - position.at_risk
    if more != 0.0:
        for k in range(min(book.account[0].bars, len(book.scenarios))):
            book.scenarios[k] += more * book.returns[row, k]
        position.at_risk += more

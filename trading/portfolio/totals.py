"""A book's totals: moved, not added up again. Compiled; a function of the log alone.

A position leaves the totals as it was and joins them as it is, so that a book of a thousand symbols costs no
more than one of three.
"""

from __future__ import annotations

import math

from trading.compiled import entry, inline
from trading.portfolio.sums import added
from trading.portfolio.tables import BookTables
from trading.risk.engine import round_quantity
from trading.risk.measures import exposure_before, is_unpriced, worst_case_position
from trading.risk.model import Account, Position

#: An exposure that was so many times larger than it is now: the scenarios are then counted anew.
EXTREME = 1e6


@inline
def expected(position: Position) -> float:
    """Signed position when the working orders have filled, in units."""
    return round_quantity(position.quantity + position.buying - position.selling)


@inline
def worth(position: Position) -> float:
    """Of what the position earned and holds, in the account's currency."""
    held = position.quantity * position.mark if position.quantity != 0.0 else 0.0
    own = (position.cash + held) + position.cash_rest
    return own * position.rate if own != 0.0 else 0.0


@inline
def leave_totals(position: Position, account: Account) -> None:
    """Take the position out of the totals, before it changes."""
    if is_unpriced(position):
        account.unpriced -= 1
    else:
        count(position, account, -1.0)


@inline
def join_totals(position: Position, account: Account) -> None:
    """Put it back, after it has changed."""
    if is_unpriced(position):
        account.unpriced += 1
    else:
        count(position, account, 1.0)


@inline
def count(position: Position, account: Account, times: float) -> None:
    """Add the position to the totals, 1 or -1 times."""
    account.gross, account.gross_rest = added(account.gross, account.gross_rest, times * exposure_before(position))
    account.worth, account.worth_rest = added(account.worth, account.worth_rest, times * worth(position))
    if worst_case_position(position) > 0.0:
        signed = expected(position) * position.mark * position.rate
        account.net, account.net_rest = added(account.net, account.net_rest, times * signed)


@entry
def recount(book: BookTables) -> None:
    """Add the totals up anew: the limits, and with them capital and rates, have changed."""
    account = book.account[0]
    account.gross = account.net = account.worth = 0.0
    account.gross_rest = account.net_rest = account.worth_rest = 0.0
    account.unpriced = 0
    for row in range(account.rows):
        join_totals(book.positions[row], account)
        reweigh(book, row)


@inline
def reweigh(book: BookTables, row: int) -> None:
    """Count the position's present exposure in the scenarios."""
    position = book.positions[row]
    before = abs(position.at_risk)
    weigh(book, row)
    if before > EXTREME * (abs(position.at_risk) + 1.0):
        # What was so much larger has taken the others' last digits with it.
        add_scenarios(book)


@inline
def weigh(book: BookTables, row: int) -> None:
    """Move the scenarios by what the position's exposure has changed."""
    position = book.positions[row]
    now = expected(position) * position.mark * position.rate if worst_case_position(position) > 0.0 else 0.0
    now = 0.0 if math.isnan(now) else now
    more = now - position.at_risk
    if more != 0.0:
        for k in range(min(book.account[0].bars, len(book.scenarios))):
            book.scenarios[k] += more * book.returns[row, k]
        position.at_risk = now


@inline
def add_scenarios(book: BookTables) -> None:
    """Add the exposures that the scenarios count up anew."""
    bars = min(book.account[0].bars, len(book.scenarios))
    book.scenarios[:] = 0.0
    for row in range(book.account[0].rows):
        at_risk = book.positions[row].at_risk
        if at_risk != 0.0:
            for k in range(bars):
                book.scenarios[k] += at_risk * book.returns[row, k]


@inline
def weigh_all(book: BookTables) -> None:
    """Count every position's exposure in the scenarios anew."""
    book.scenarios[:] = 0.0
    for row in range(book.account[0].rows):
        book.positions[row].at_risk = 0.0
    for row in range(book.account[0].rows):
        weigh(book, row)

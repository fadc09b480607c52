"""What a batch of decisions is written into, and the codes of what may be decided."""

from __future__ import annotations

import numpy as np

from trading.decision.json import BUY, SELL
from trading.decision.kernel import Kinds, Outcomes
from trading.decision.schema import CODES, Reason
from trading.portfolio.book import new_sheet

#: What the compiled code decides by itself.
KIND_CODES = Kinds(
    within_band=CODES[Reason.WITHIN_BAND],
    warming_up=CODES[Reason.WARMING_UP],
    no_price=CODES[Reason.NO_PRICE],
    no_rate=CODES[Reason.NO_RATE],
    invalid=CODES[Reason.PREDICTOR_INVALID],
    denied=CODES[Reason.DENIED],
    buy=BUY,
    sell=SELL,
)


def room_for(n: int) -> Outcomes:
    """Room for n decisions."""
    sheet = new_sheet(n)
    return Outcomes(np.empty(n, np.int8), np.empty((n, 5)), np.empty(n, np.int8), *sheet, new_sheet())

"""What tests of rules share."""

from __future__ import annotations

import math

from tests.traded_book import TradedBook
from trading.risk.verdict import Outcome

ACCEPT, CLIP, DENY = Outcome.ACCEPT, Outcome.CLIP, Outcome.DENY
UP = math.inf


def traded(price=100.0, **limits):
    made = TradedBook(**limits)
    made.tick(price)
    return made


def beyond(value):
    return math.nextafter(value, UP)


def walk(made, returns, price=100.0, symbol="A"):
    made.tick(price, symbol)
    for move in returns:
        price *= 1.0 + move
        made.tick(price, symbol, after_s=1.0)
    made.tick(price, symbol, after_s=1.0)  # ends the last bar
    return price


MOVES = [0.01, -0.02, 0.005, 0.03, -0.01, 0.0, -0.005, 0.02, -0.03, 0.01]

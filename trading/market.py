"""Market updates as frozen values, the constraints on their fields, and the array form of a batch.

What is made for every tick is left out of garbage collection (`gc=False`): it holds no cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from trading.arrays import FloatArray, Int64Array
from trading.encoding import END

#: Columns of the market as it stands after a tick: best quote, latest trade, mid; NaN is unknown.
BID, ASK, LAST, MID = range(4)
#: Columns of what a tick states: see `TickBatch.quotes`.
QUOTE_BID, QUOTE_ASK, QUOTE_BID_SIZE, QUOTE_ASK_SIZE, TRADE_PRICE, TRADE_SIZE = range(6)

MAX_SYMBOL_LENGTH = 32
SYMBOL_PATTERN = r"^[A-Za-z0-9._:/-]+" + END
Symbol = Annotated[str, Meta(min_length=1, max_length=MAX_SYMBOL_LENGTH, pattern=SYMBOL_PATTERN)]
#: Before 2200: a later time is a unit error, not a tick.
MAX_TIME_NS = 7_258_118_400_000_000_000
#: Nanoseconds since 1970-01-01 UTC.
EventTimeNs = Annotated[int, Meta(gt=0, lt=MAX_TIME_NS)]
#: Far below any traded price: a smaller one is a unit error, and overflows what divides by it.
MIN_PRICE, MAX_PRICE = 1e-9, 1e15
Price = Annotated[float, Meta(ge=MIN_PRICE, lt=MAX_PRICE)]
MAX_SIZE = 1e18
Size = Annotated[float, Meta(ge=0.0, lt=MAX_SIZE)]


class Tick(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One market update. A field that the source does not carry is None, never zero.

    An unknown field is refused: a misspelt price would otherwise be taken as absent.

    Attributes:
        symbol: instrument; also the Kafka key.
        event_time_ns: exchange time, nanoseconds since 1970 UTC.
        bid, ask: best quote, in the instrument's price unit.
        bid_size, ask_size: size at the best quote, in the instrument's quantity unit.
        last, last_size: price and size of the latest trade.
    """

    symbol: Symbol
    event_time_ns: EventTimeNs
    bid: Price | None = None
    ask: Price | None = None
    bid_size: Size | None = None
    ask_size: Size | None = None
    last: Price | None = None
    last_size: Size | None = None


class TickBatch(Struct, frozen=True):
    """Ticks as arrays of length n, in arrival order; NaN is "unknown".

    Attributes:
        symbols: n symbols.
        event_time_ns: int64 [n].
        quotes: float64 [n, 6], columns bid, ask, bid_size, ask_size, last, last_size.
    """

    symbols: tuple[str, ...]
    event_time_ns: Int64Array
    quotes: FloatArray

    def __len__(self) -> int:
        return len(self.symbols)

    def part(self, begin: int, end: int) -> TickBatch:
        """Some of the ticks; the arrays are views."""
        return TickBatch(self.symbols[begin:end], self.event_time_ns[begin:end], self.quotes[begin:end])

    @classmethod
    def from_ticks(cls, ticks: Sequence[Tick]) -> TickBatch:
        """Build the arrays."""
        n = len(ticks)
        quotes = np.array(
            [(t.bid, t.ask, t.bid_size, t.ask_size, t.last, t.last_size) for t in ticks],
            dtype=np.float64,
        ).reshape(n, 6)
        return cls(
            symbols=tuple(t.symbol for t in ticks),
            event_time_ns=np.fromiter((t.event_time_ns for t in ticks), np.int64, n),
            quotes=quotes,
        )

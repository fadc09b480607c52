"""binance:PATH.gz - a raw Binance futures feed: receive time in ns, a space, the exchange's JSON.

Best bid/ask updates and trades become ticks; depth updates and snapshots are other data and are
passed over. The event time is the exchange's transaction time T, in ms.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from trading.errors import SourceError
from trading.history.source import Dropped, Record, Source, existing
from trading.market import Tick

MS = 1_000_000


class Message(msgspec.Struct):
    """The fields of bookTicker and trade messages that are used."""

    e: str = ""
    s: str = ""
    T: int = 0
    b: msgspec.Raw = msgspec.Raw(b"")
    B: str = ""
    a: msgspec.Raw = msgspec.Raw(b"")
    A: str = ""
    p: str = ""
    q: str = ""


class Envelope(msgspec.Struct):
    """A combined-stream message; snapshots of the order book have no `data`."""

    data: Message | None = None


def open_binance(spec: str, path: str, options: dict[str, str]) -> Source:
    """Raises SourceError for a missing file or another suffix."""
    file = existing(path, (".gz",), "a gzipped Binance feed, binance:PATH.gz")
    return Source(spec, lambda dropped: read(file, dropped))


def read(path: Path, dropped: Dropped) -> Iterator[Record]:
    """Ticks in the order in which they were received."""
    decode = msgspec.json.Decoder(Envelope).decode
    try:
        with gzip.open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                received, _, payload = line.partition(b" ")
                try:
                    arrival_ns = int(received)
                    message = decode(payload).data
                    tick = None if message is None else to_tick(message)
                except (ValueError, msgspec.DecodeError) as error:
                    dropped.add(number, str(error))
                    continue
                if tick is not None:
                    yield Record(arrival_ns, tick)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError(f"{path} is no whole gzip file: {error}") from error


def to_tick(message: Message) -> Tick | None:
    """The tick of a bookTicker or trade message; None for any other kind."""
    if message.e == "bookTicker":
        return Tick(
            message.s,
            message.T * MS,
            bid=price(message.b),
            ask=price(message.a),
            bid_size=float(message.B),
            ask_size=float(message.A),
        )
    if message.e == "trade":
        return Tick(message.s, message.T * MS, last=positive(message.p), last_size=float(message.q))
    return None


def price(raw: msgspec.Raw) -> float:
    """A quoted decimal, kept raw because depth updates have arrays under the same name."""
    return positive(msgspec.json.decode(bytes(raw), type=str))


def positive(text: str) -> float:
    """A price; ValueError for one that is not above zero."""
    value = float(text)
    if not 0.0 < value < math.inf:
        raise ValueError(f"price {text} is not finite and above zero")
    return value

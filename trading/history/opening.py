"""From a SOURCE string to what reads it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl

from trading.errors import SourceError
from trading.history import archive, binance, lean, simulate, skfolio, tabular
from trading.history.source import Source

FORMS = (
    "skfolio:sp500",
    "binance:PATH.gz",
    "lean:PATH.zip",
    "csv:PATH[?symbol=NAME]",
    "parquet:PATH[?symbol=NAME]",
    "archive:FOLDER[?symbol=NAME&from=P:OFFSET,...&until=P:OFFSET,...]",
    "simulate:SCENARIO[?seed=N&ticks=N&symbols=N]",
)


def open_source(spec: str) -> Source:
    """Open a SOURCE.

    Raises:
        SourceError: unknown form, missing file, or an option that the form does not have.
    """
    kind, _, rest = spec.partition(":")
    path, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    openers: dict[str, Callable[[str, str, dict[str, str]], Source]] = {
        "skfolio": skfolio.open_skfolio,
        "binance": binance.open_binance,
        "lean": lean.open_lean,
        "csv": tabular.open_csv,
        "parquet": tabular.open_parquet,
        "archive": archive.open_archive,
        "simulate": simulate.open_simulation,
    }
    opener = openers.get(kind)
    if opener is None:
        raise SourceError(f"{spec!r} is no SOURCE: expected one of {', '.join(FORMS)}")
    source = opener(spec, path, options)
    if options:
        raise SourceError(f"{spec!r}: unknown option {', '.join(options)}")
    return source

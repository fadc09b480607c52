"""From a SOURCE string to what reads it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl

from trading.errors import SourceError
from trading.history import archive, binance, lean, simulate, skfolio, tabular
from trading.history.forms import check_form
from trading.history.source import Source


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
    check_form(spec)
    source = openers[kind](spec, path, options)
    if options:
        raise SourceError(f"{spec!r}: unknown option {', '.join(options)}")
    return source

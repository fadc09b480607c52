"""The forms of a SOURCE, as data: whoever only checks one need not load what reads it."""

from __future__ import annotations

from trading.errors import SourceError

FORMS = (
    "skfolio:sp500",
    "binance:PATH.gz",
    "lean:PATH.zip",
    "csv:PATH[?symbol=NAME]",
    "parquet:PATH[?symbol=NAME]",
    "archive:FOLDER[?symbol=NAME&from=P:OFFSET,...&until=P:OFFSET,...]",
    "simulate:SCENARIO[?seed=N&ticks=N&symbols=N]",
)


def check_form(spec: str) -> None:
    """Raise SourceError where a SOURCE begins as none does."""
    if spec.partition(":")[0] not in {form.partition(":")[0] for form in FORMS}:
        raise SourceError(f"{spec!r} is no SOURCE: expected one of {', '.join(FORMS)}")

"""Spans of event time as people write them."""

from __future__ import annotations

import pytest

from trading.errors import ConfigurationError
from trading.spans import parse_span, span_text

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "ns"),
    [("250ms", SECOND // 4), ("10s", 10 * SECOND), ("1.5h", 5400 * SECOND), ("2d", 172_800 * SECOND)],
)
def test_spans(text, ns):
    assert parse_span(text) == ns
    assert parse_span(span_text(ns)) == ns


@pytest.mark.parametrize("text", ["", "10", "0s", "-1s", "s", "1w"])
def test_what_is_no_span_says_what_was_expected(text):
    with pytest.raises(ConfigurationError, match="no span of time"):
        parse_span(text)

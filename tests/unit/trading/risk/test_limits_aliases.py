"""A limits file of a few hundred bytes cannot become gigabytes."""

from __future__ import annotations

import pytest

from trading.risk import limits_file


def test_aliases_are_refused_by_line():
    bomb = "defaults:\n  max_order_notional: &a [1, 1, 1, 1, 1, 1, 1, 1]\n"
    for k in range(8):
        bomb += f"  max_gross_{k}: &{chr(98 + k)} [{', '.join(['*' + chr(97 + k)] * 8)}]\n"
    with pytest.raises(limits_file.LimitsError, match="line 3: aliases"):
        limits_file.parse(bomb)


def test_what_is_given_is_quoted_short():
    with pytest.raises(limits_file.LimitsError) as raised:
        limits_file.parse("defaults: {max_order_notional: [" + "1, " * 10_000 + "1]}")
    assert len(str(raised.value)) < 500

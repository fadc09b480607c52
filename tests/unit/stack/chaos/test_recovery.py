"""How soon after a kill every partition is decided by the model again."""

from __future__ import annotations

import json

import pytest

from stack.chaos.recovery import ON_THEIR_WAY_NS, Fault, recovered_after
from trading.errors import ServiceUnavailable

BEGAN_NS = 10 * 10**9
FAULT = Fault({0: 100, 1: 50}, {0: 120, 1: 50}, BEGAN_NS, 0.0)


class Seen:
    """What was decided, and when it was seen."""

    def __init__(self, *rows):
        self.visible_ns = [BEGAN_NS + int(after_s * 1e9) for after_s, _ in rows]
        self.payloads = [payload for _, payload in rows]


def decided(partition, offset, *, by_model=True):
    told = {"decision_id": f"market.ticks-{partition}-{offset}", "regime_probabilities": [1.0] if by_model else []}
    return json.dumps(told).encode()


def test_it_is_the_last_partition_that_the_model_decides_again():
    seen = Seen(
        (0.3, decided(1, 60)), (0.4, decided(0, 110)), (0.5, b"no decision"), (0.6, decided(0, 121, by_model=False)),
        (0.7, decided(0, 122)), (0.9, decided(0, 123)),
    )  # fmt: skip
    assert recovered_after(seen, FAULT, 2, 1.0) == pytest.approx(0.7)


def test_what_was_seen_before_the_fault_is_not_even_read():
    # It would not be understood: reading it would fail.
    seen = Seen((-5.0, None), (-0.1, None), (0.2, decided(0, 130)), (0.2, decided(1, 70)))
    assert recovered_after(seen, FAULT, 2, 1.0) == pytest.approx(0.2)


def test_what_was_on_its_way_when_it_came_is_no_recovery():
    early_s = ON_THEIR_WAY_NS / 2e9
    seen = Seen((early_s, decided(0, 130)), (early_s, decided(1, 70)))
    with pytest.raises(ServiceUnavailable, match=r"only partitions \[\] are decided again"):
        recovered_after(seen, FAULT, 2, 0.1)

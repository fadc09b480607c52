"""What a gateway rebuilds, and what it refuses to."""

from __future__ import annotations

import pytest

from gateway.recovery import known_alone
from trading.errors import ConfigurationError


def test_partitions_that_came_since_the_start_are_refused():
    restored = []
    restore = known_alone(4, "market.ticks", restored.append)
    restore(0)
    restore(3)
    with pytest.raises(ConfigurationError, match=r"it knows 4, and is given number 4.*start all gateways again"):
        restore(4)
    assert restored == [0, 3]

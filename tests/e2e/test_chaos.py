"""The short form of `make chaos`: whatever is killed, nothing is lost, twice, out of order or different."""

from __future__ import annotations

import pytest

from stack.chaos.run import Chaos


# Its other faults are made by `make proof`, which runs all of it.
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("exported")
def test_kills_and_a_flood_leave_the_log_as_an_undisturbed_run_would(stack):
    chaos = Chaos(stack, seed=3, progress=lambda _: None)
    kills, flood = chaos.run(kills=3, poison=5_000, faults=False, proxy_ports=None).rows
    assert (kills.fault, flood.fault) == ("gateway killed (-9)", "5,000 poison messages")
    assert kills.verdict.ok
    assert flood.verdict.ok
    assert kills.compared == "evidence"
    assert kills.verdict.ticks > 500
    assert kills.verdict.letters > 5
    assert flood.verdict.letters >= 5_000

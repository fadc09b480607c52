"""Short forms of `make chaos`: whatever is killed, nothing is lost, twice, out of order or different."""

from __future__ import annotations

import pytest

from stack.chaos.run import Chaos

pytestmark = pytest.mark.usefixtures("exported")


@pytest.mark.slow
@pytest.mark.timeout(600)
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


@pytest.mark.long
@pytest.mark.timeout(900)
def test_so_does_every_fault(stack):
    rows = (
        Chaos(stack, seed=3, progress=lambda _: None).run(kills=2, poison=1000, faults=True, proxy_ports=None).rows
    )
    assert {row.fault: row.verdict for row in rows if not row.verdict.ok} == {}
    assert [row.fault for row in rows] == [
        "gateway killed (-9)", "Triton killed", "Triton frozen for 3 s", "Redis killed", "Kafka broker killed",
        "1,000 poison messages", "bad control records", "gateway paused beyond its session",
        "gateway killed, another takes over", "killed during a stalled publish", "ticks deleted by retention",
        "ticks topic recreated",
    ]  # fmt: skip

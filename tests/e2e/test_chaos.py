"""The short forms of `make chaos`: whatever is killed, nothing is lost, twice, out of order or different."""

from __future__ import annotations

import pytest

from stack.chaos.run import Chaos

pytestmark = pytest.mark.usefixtures("exported")


def chaos(stack, **what):
    """No row of its report may differ."""
    report = Chaos(stack, seed=3, progress=lambda _: None).run(poison=5_000, proxy_ports=None, **what)
    assert {row.fault: row.verdict for row in report.rows if not row.verdict.ok} == {}
    kills = report.rows[0]
    assert kills.compared == "evidence"
    assert kills.verdict.ticks > 500
    assert kills.verdict.letters > 5
    flood = next(row for row in report.rows if row.fault == "5,000 poison messages")
    assert flood.verdict.letters >= 5_000
    return [row.fault for row in report.rows]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kills_and_a_flood_leave_the_log_as_an_undisturbed_run_would(stack):
    assert chaos(stack, kills=3, faults=False) == ["gateway killed (-9)", "5,000 poison messages"]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_so_does_every_fault(stack):
    assert chaos(stack, kills=5, faults=True) == [
        "gateway killed (-9)", "Triton killed", "Triton frozen for 3 s", "Redis killed", "Kafka broker killed",
        "5,000 poison messages", "bad control records", "gateway paused beyond its session", "gateway killed, another takes over",
        "killed during a stalled publish", "ticks deleted by retention", "ticks topic recreated",
    ]  # fmt: skip

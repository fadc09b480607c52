"""The short form of `make chaos`: whatever is killed, nothing is lost, twice, out of order or different."""

from __future__ import annotations

import pytest

from stack.chaos.run import Chaos

pytestmark = pytest.mark.slow


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("exported")
def test_kills_and_faults_leave_the_log_as_an_undisturbed_run_would(stack):
    report = Chaos(stack, seed=3, progress=lambda _: None).run(kills=5, poison=5_000, faults=True, proxy_ports=None)
    assert [row.fault for row in report.rows] == [
        "gateway killed (-9)", "Triton killed", "Triton frozen for 3 s", "Redis killed", "Kafka broker killed",
        "5,000 poison messages", "bad control records", "gateway paused beyond its session", "gateway killed, another takes over",
        "killed during a stalled publish", "ticks deleted by retention", "ticks topic recreated",
    ]  # fmt: skip
    assert {row.fault: row.verdict for row in report.rows if not row.verdict.ok} == {}
    kills = report.rows[0]
    assert kills.compared == "evidence"
    assert kills.verdict.ticks > 1_000
    assert kills.verdict.letters > 10
    assert report.rows[5].verdict.letters >= 5_000

"""A canary's units stay their arms' whatever breaks while a share grows: the rows that `make chaos` adds."""

from __future__ import annotations

import pytest

from stack.chaos.servers import ServerFaults
from stack.chaos.table import Trial
from stack.workflows.experiments.faults import CanaryFaults

pytestmark = pytest.mark.usefixtures("exported")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_unit_is_its_arms_whatever_breaks_while_a_share_grows(stack):
    trial = Trial(stack, "grows-3", 3, ServerFaults(stack.absolute_home), lambda _: None)
    rows = CanaryFaults(trial).rows()
    assert {row.fault: row.verdict for row in rows if not row.verdict.ok} == {}
    assert [row.fault.removeprefix("a share grows: ") for row in rows] == [
        "gateway killed", "Redis killed", "its watcher killed", "the exchange's clock steps", "partitions move",
    ]  # fmt: skip
    assert all(row.verdict.ticks > 500 for row in rows)
    assert {row.compared for row in rows} == {"arms"}

"""A decision is joined with its own tick, or with none."""

from __future__ import annotations

import pytest
from msgspec import structs

from services.experiments.desk_log import refuse_another_tick
from tests.recorded_desk import recorded
from tests.unit.services.experiments.test_partition_shadow import SMALL, rows_of
from trading.errors import ConfigurationError


@pytest.mark.parametrize("change", [{"symbol": "OTHER"}, {"event_time_ns": 1}])
def test_a_topic_that_was_made_anew_is_told(change):
    log = next(iter(recorded(SMALL, 500, assumed=True).values()))
    row = rows_of(log)[0]
    refuse_another_tick("market.ticks", row)
    with pytest.raises(ConfigurationError, match=r"market.ticks was made anew, begin later \(--since\)"):
        refuse_another_tick("market.ticks", row._replace(tick=structs.replace(row.tick, **change)))

"""What an order left of a limit is told for some seconds, whatever the orders of other partitions left after it."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from gateway.adapters.headroom import SPAN_S, LeastHeadroom


class Told:
    def __init__(self):
        self.at, self.registry = 100.0, CollectorRegistry()
        self.gauge = LeastHeadroom(self.registry, lambda: self.at)

    def __call__(self, rule="drawdown"):
        return self.registry.get_sample_value("gateway_rule_headroom_ratio", {"rule": rule})


@pytest.fixture
def told():
    return Told()


def test_nothing_is_told_where_there_was_no_order(told):
    assert told() is None


def test_a_partition_near_its_limit_is_not_hidden_by_the_next_batch(told):
    for share in (0.9, 0.05, 0.8):
        told.gauge.note({"drawdown": share, "daily_loss": 1.0})
    assert told() == 0.05
    assert told("daily_loss") == 1.0
    # The whole time that an alert needs: it lasts for ten seconds, and is read and judged each five.
    for _ in range(20):
        told.at += 1.0
        told.gauge.note({"drawdown": 0.8})
        assert told() == 0.05


def test_below_nothing_is_less_than_nothing_left(told):
    told.gauge.note({"drawdown": -0.5})
    told.gauge.note({"drawdown": 0.0})
    assert told() == -0.5


def test_what_was_left_long_ago_is_told_no_more(told):
    told.gauge.note({"drawdown": 0.05})
    told.at += SPAN_S
    told.gauge.note({"drawdown": 0.7})
    assert told() == 0.05
    told.at += SPAN_S
    assert told() == 0.7
    told.at += SPAN_S
    assert told() is None


def test_after_a_pause_nothing_is_left_of_before_it(told):
    told.gauge.note({"drawdown": 0.05})
    told.at += 5 * SPAN_S
    told.gauge.note({"drawdown": 0.7})
    assert told() == 0.7

"""What a share that grew on a recorded feed is told as, and when it is as promised."""

from __future__ import annotations

import pytest
from msgspec import structs

from stack.demo.recorded_feed import ARM, STEPS, FeedRamp, counted, definition_of
from tests.challengers import FakeCanaries, FakeChallenger, canary
from tests.recorded_desk import recorded
from tests.unit.services.experiments.test_partition_shadow import SMALL, rows_of
from trading.experiments.definition import ServedModel
from trading.experiments.register import Experiment, ExperimentState, Said

MODELS = (ServedModel("trading_decision", 7), ServedModel("trading_decision_fused", 9))


def told(decisions, one, said=()):
    definition = definition_of(MODELS)
    experiment = Experiment(definition, ExperimentState.RUNNING, one.arms.steps, said)
    return counted("binance:x.gz", experiment, decisions)


@pytest.fixture(scope="module")
def desk():
    one = canary(FakeChallenger(), 0.25, "recorded", block_s=1)
    one = structs.replace(one, arms=structs.replace(one.arms, salt="salt-of-recorded-1"))
    logs = recorded(SMALL, 4000, assumed=True, canaries=FakeCanaries(one))
    decisions = [row.decision for log in logs.values() for row in rows_of(log)]
    # As the demo calls the arm.
    return [structs.replace(d, assigned={"newer": ARM}.get(d.assigned, d.assigned)) for d in decisions], one


def test_units_are_counted_by_their_share(desk):
    decisions, one = desk
    found = told(decisions, one)
    whole, mine = found.units["25%"]
    assert (found.decisions, found.moved, found.wrong, found.fallbacks) == (len(decisions), 0, 0, 0)
    assert 0 < mine < whole
    assert found.answered > 100
    # Two of the shares are lacking.
    assert not found.as_promised


def test_a_unit_that_two_arms_had_is_told_of(desk):
    decisions, one = desk
    at = next(k for k, d in enumerate(decisions) if d.assigned == ARM)
    changed = [*decisions[:at], structs.replace(decisions[at], assigned="champion"), *decisions[at + 1 :]]
    found = told(changed, one)
    assert (found.moved, found.wrong) == (1, 1)


@pytest.mark.parametrize(
    ("change", "is_so"),
    [
        ({}, True),
        ({"moved": 1}, False),
        ({"wrong": 1}, False),
        ({"answered": 2}, False),
        ({"stopped": "it does harm"}, False),
        ({"units": {"5%": (20, 1), "25%": (20, 5)}}, False),
        ({"units": {"5%": (20, 0), "25%": (20, 5), "100%": (20, 20)}}, False),
    ],
)
def test_it_is_as_promised_where_every_share_was_reached_and_nobody_moved(change, is_so):
    units = {f"{share:.0%}": (20, round(20 * share)) for share in STEPS}
    assert structs.replace(FeedRamp("x", 1000, units, 0, 0, 400, 3, ""), **change).as_promised is is_so


def test_a_stop_is_told(desk):
    decisions, one = desk
    assert told(decisions, one, (Said(9, "stop", "experiments", "it does harm", 0),)).stopped == "it does harm"

"""What a canary's arms did on the desk: counted by unit, positions the opener's, and harm shown by its blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec import structs

from services.experiments.block_run import CheckpointRefused
from services.experiments.block_series import BlockSeries
from services.experiments.checkpoints import DESK, CheckpointStore
from services.experiments.desk_run import DeskRun
from services.experiments.live_evaluation import desk_harm, evaluate_live
from services.experiments.live_series import LiveSeries
from services.experiments.lots import Lots
from services.experiments.partition_canary import (
    LiveArm,
    LiveOutcome,
    PartitionCanary,
    count,
    percentile,
    step_of,
)
from services.experiments.partition_shadow import PartitionShadow
from tests.challengers import FakeCanaries, FakeChallenger, canary
from tests.golden_log import OTHER
from tests.recorded_desk import BAND, limits, recorded
from tests.unit.services.experiments.fakes import FakeDeskLog
from tests.unit.services.experiments.test_partition_shadow import SMALL, rows_of, same_answers
from tests.unit.services.experiments.test_running import in_turns
from trading.errors import PredictorTimeout
from trading.events import Command
from trading.experiments.definition import (
    Challenger,
    ExperimentDefinition,
    GuardedMetric,
    PrimaryMetric,
    ServedModel,
    TradingCosts,
)

EXPERIMENT = ExperimentDefinition(
    1, "fresh", ServedModel("trading_decision", 7), (Challenger("newer", "trading_decision_fused", 9),),
    PrimaryMetric(0.1), kind="canary", salt="salt-of-fresh", block="1s", costs=TradingCosts(0.0, 0.0),
    guardrails=(GuardedMetric("error_rate", 0.01, 0.5), GuardedMetric("p99_ms", 5.0)),
)  # fmt: skip


NOTHING = BlockSeries(EXPERIMENT.arms, 1)


def desk_log(model, share=0.5, name="fresh"):
    """What was decided with such a challenger, and how it was divided."""
    one = canary(model, share, name, block_s=1)
    return recorded(SMALL, 4000, assumed=True, canaries=FakeCanaries(one)), one


def counting(logs, polls, arms, experiment=EXPERIMENT):
    canaries = {p: PartitionCanary(p, experiment, lambda: arms, limits(), log) for p, log in logs.items()}
    return DeskRun(experiment, FakeDeskLog(polls, list(logs)), canaries, LiveSeries(experiment.arms, len(logs)))


def polls_of(logs, size=200):
    return [{p: [row.published for row in rows] for p, rows in poll.items()} for poll in in_turns(logs, size)]


def finished(run):
    while run._log.polls:
        run.turn(0.0)
    for partition, one in run._partitioned.items():
        run._pass(partition, one.block + 1)
    run.turn(0.0)
    return run.series


def decided(model, share=0.5, experiment=EXPERIMENT, arms=None):
    """What was decided with such a challenger, and what is counted of it by the desk's own rows."""
    logs, one = desk_log(model, share)
    series = finished(counting(logs, polls_of(logs), arms or one.arms, experiment))
    return series, [row.decision for log in logs.values() for row in rows_of(log)], one


def beside(logs):
    """What the champion's virtual book earned meanwhile."""
    found = BlockSeries(EXPERIMENT.arms, len(logs))
    for partition, log in logs.items():
        mine = rows_of(log)
        shadow = PartitionShadow(partition, EXPERIMENT, limits(), log, BAND, 0)
        answers = same_answers(mine)
        outcomes = list(shadow.take(mine, {"champion": answers, "newer": answers}))
        for outcome in [*outcomes, *shadow.pass_to(shadow.block + 1)]:
            found.add(outcome)
    found.end(2**62)
    return found


def test_every_row_is_counted_once_and_is_its_units():
    series, decisions, one = decided(FakeChallenger())
    assert len(series.blocks) > 20
    for place, arm in enumerate(EXPERIMENT.arms):
        mine = [d for d in decisions if d.assigned == arm]
        assert series.total("rows", place) == len(mine) > 500
        assert series.total("answered", place) == sum(d.target_position is not None for d in mine)
        assert series.total("denied", place) == sum(d.reason == "denied" for d in mine)
    units = {(d.symbol, d.event_time_ns // 1_000_000_000) for d in decisions if d.assigned == "newer"}
    assert {one.arms.arm_of(*unit)[0] for unit in units} == {1}
    ratio = series.sample_ratio(1)
    # A tick that comes late is of the unit of its own time, and is counted in the block that it comes in.
    assert ratio.treated == pytest.approx(len(units), abs=5)
    assert not ratio.is_broken(0.001)


def test_what_all_arms_earned_together_is_what_the_desk_earned():
    series, decisions, _ = decided(FakeChallenger())
    cash, held, mids = 0.0, {}, {}
    for d in decisions:
        if d.mid_price is not None:
            mids[d.symbol] = d.mid_price
        if d.action != "hold":
            cash -= d.quantity * d.reference_price
            held[d.symbol] = held.get(d.symbol, 0.0) + d.quantity
    whole = cash + sum(quantity * mids[symbol] for symbol, quantity in held.items())
    arms = [sum(one.arms[k].profit for one in series._ended) for k in (0, 1)]
    assert sum(arms) == pytest.approx(whole, rel=1e-9)
    assert all(arms)


def test_what_a_challenger_did_not_answer_counts_against_it_and_not_what_another_champion_did():
    series, decisions, _ = decided(FakeChallenger(late=PredictorTimeout("late")))
    assert {d.fallback for d in decisions} == {"", "timeout"}
    (found,) = evaluate_live(EXPERIMENT, series, NOTHING)
    assert found.fallbacks == found.rows > 500
    assert [g.metric for g in found.breached] == ["error_rate"]
    assert "newer does harm on the desk: in block 1 its error_rate was 1 above the champion's" in desk_harm(
        EXPERIMENT, series
    )
    other, decisions, _ = decided(None)
    assert evaluate_live(EXPERIMENT, other, NOTHING)[0].fallbacks > 0


def test_one_that_does_as_the_champion_does_is_accused_of_nothing():
    series, _, _ = decided(FakeChallenger(target=0.5))
    (found,) = evaluate_live(EXPERIMENT, series, NOTHING)
    assert (desk_harm(EXPERIMENT, series), found.split, found.fallbacks) == ("", False, 0)
    assert found.units == pytest.approx(found.expected, rel=0.2)


def test_units_that_are_not_divided_as_was_promised_are_told_of():
    one = canary(None, 0.05, block_s=1)
    # Half of the units were given where a twentieth was to be.
    series, _, _ = decided(FakeChallenger(), share=0.5, arms=one.arms)
    (found,) = evaluate_live(EXPERIMENT, series, NOTHING)
    assert found.split
    assert "they are not divided as was promised" in desk_harm(EXPERIMENT, series)


def test_a_block_of_which_a_part_was_divided_by_nobody_is_left_out():
    series = LiveSeries(EXPERIMENT.arms, 1)
    for block, whole in ((1, True), (2, False), (3, True)):
        series.add(LiveOutcome(0, block, 1e6, 0.5, whole, (LiveArm(units=1, rows=5), LiveArm(units=1, rows=5))))
    assert series.end(2) == 1
    assert series.end(3) == 2
    assert series.blocks.tolist() == [1, 3]
    copy = LiveSeries(EXPERIMENT.arms, 1)
    copy.load(series.dump())
    assert copy.blocks.tolist() == [1, 3]


def test_blocks_without_rows_of_one_arm_compare_nothing():
    series = LiveSeries(EXPERIMENT.arms, 1)
    one = LiveArm(units=1, rows=5, errors=5, latencies={step_of(2.0): 5})
    for block, arms in enumerate([(one, LiveArm()), (LiveArm(), one), (one, structs.replace(one, errors=0))]):
        series.add(LiveOutcome(0, block, 1e6, 0.5, whole=True, arms=arms))
    series.end(9)
    champion, mine = series.compared(1)
    assert np.isnan(mine["error_rate"]).tolist() == [True, False, False]
    assert (champion["error_rate"][1:].tolist(), mine["error_rate"][1:].tolist()) == ([0.0, 1.0], [1.0, 0.0])
    assert np.isnan(mine["p99_ms"]).tolist() == [True, True, False]


def test_a_sum_is_of_all_units_whatever_the_share():
    series = LiveSeries(EXPERIMENT.arms, 1)
    for block, share in enumerate([0.5, 0.05, 1.0, 0.0]):
        arms = LiveArm(units=1, rows=1, profit=100.0 * (1 - share)), LiveArm(units=1, rows=1, profit=200.0 * share)
        series.add(LiveOutcome(0, block, 1e6, share, whole=True, arms=arms))
    series.end(9)
    # Where one of both could have none nothing is compared.
    assert series.differences(1, {block: [0.0, 0.0] for block in range(4)}).tolist() == pytest.approx([1.0, 1.0])
    # And what the virtual book has not come to is not known yet.
    assert len(series.differences(1, {0: [0.0, 0.0]})) == 1


def test_what_the_virtual_book_earned_in_each_arms_units_explains_the_difference():
    logs, _ = desk_log(FakeChallenger(target=0.5))
    series, shadow = decided(FakeChallenger(target=0.5))[0], beside(logs)
    assert set(series.blocks.tolist()) <= set(shadow.virtual)
    # The champion's book earned what it earned, whoever had its units.
    money = shadow.arms()["champion"].profit
    assert [sum(one) for one in shadow.virtual.values()] == pytest.approx(money.tolist(), abs=1e-6)
    known = [shadow.virtual[block] for block in series.blocks.tolist()]
    assert np.all(np.any(known, axis=0))
    (found,) = evaluate_live(EXPERIMENT, series, shadow)
    assert found.interval.blocks == len(series.blocks)
    copy = BlockSeries(EXPERIMENT.arms, len(logs))
    copy.load(shadow.dump())
    assert copy.virtual == shadow.virtual


def test_what_is_counted_on_the_desk_goes_on_after_a_kill_as_if_there_had_been_none(tmp_path):
    logs, one = desk_log(FakeChallenger())
    polls = polls_of(logs)
    whole = finished(counting(logs, polls, one.arms))
    store = CheckpointStore(tmp_path, "log", DESK)
    for at in (1, len(polls) // 2):
        first = counting(logs, polls[:at], one.arms)
        while first._log.polls:
            first.turn(0.0)
        store.keep(EXPERIMENT, 5, first.dump())
        second = counting(logs, polls[at:], one.arms)
        second.load(store.kept(EXPERIMENT, 5))
        assert finished(second).dump() == whole.dump()
        assert second.rows == sum(len(log.published) for log in logs.values())
    other = counting({7: next(iter(logs.values()))}, [], one.arms)
    with pytest.raises(CheckpointRefused, match="of other partitions"):
        other.load(store.kept(EXPERIMENT, 5))


def test_limits_that_change_meanwhile_are_those_of_the_desk():
    log = next(iter(recorded(SMALL, 100, assumed=True).values()))
    (first, *_) = [row.decision for row in rows_of(log)]
    other = limits().like(OTHER).whole()
    log.told = [(Command("limits", "", "me", "because", 0), other)]
    mine = counter(canary(None).arms, log)
    list(mine.take([first]))
    assert mine.dump().limits == limits().encode()
    list(mine.take([structs.replace(first, control_to=1)]))
    assert mine.dump().limits == other.encode() != limits().encode()


def test_a_lot_is_its_openers_to_the_end():
    lots = Lots.of(2)
    lots.begin("A", 0.0, (100.0, 1.0))
    lots.fill("A", 0, 10.0, (100.0, 1.0), 0.0)
    lots.mark("A", 110.0, 1.0)
    assert lots.worth().tolist() == [100.0, 0.0]
    # The other arm sells more than there is: what was open is the first one's, and the rest its own.
    lots.fill("A", 1, -15.0, (110.0, 1.0), 0.001)
    assert lots.open["A"] == [(1, -5.0)]
    lots.mark("A", 100.0, 1.0)
    assert lots.worth().tolist() == pytest.approx([100.0 - 1.1, 50.0 - 0.55])


def test_a_position_that_was_there_before_is_the_champions_from_its_worth_on():
    lots = Lots.of(2)
    lots.begin("A", -4.0, (50.0, 2.0))
    assert lots.worth().tolist() == [0.0, 0.0]
    # Where its price is not known at first, from the first that is.
    other = Lots.of(2)
    other.begin("A", 100.0, (math.nan, 1.0))
    assert other.worth().tolist() == [0.0, 0.0]
    other.mark("A", 100.0, 1.0)
    assert other.worth().tolist() == [0.0, 0.0]
    lots.mark("A", math.nan, 2.0)
    assert lots.worth().tolist() == [0.0, 0.0]
    lots.mark("A", 49.0, 2.0)
    assert lots.worth().tolist() == [8.0, 0.0]


def test_latencies_are_counted_to_a_twentieth():
    latencies = {step_of(1.0): 98, step_of(20.0): 1, step_of(500.0): 1}
    assert percentile(latencies, 0.5) == pytest.approx(1.0, rel=0.05)
    assert percentile(latencies, 0.99) == pytest.approx(20.0, rel=0.05)
    assert percentile(latencies, 1.0) == pytest.approx(500.0, rel=0.05)
    assert math.isnan(percentile({}, 0.99))
    assert step_of(0.0) == 0


def counter(arms, log=None):
    log = log or next(iter(recorded(SMALL, 10, assumed=True).values()))
    return PartitionCanary(0, EXPERIMENT, lambda: arms, limits(), log)


def test_a_tick_that_comes_late_is_of_the_unit_of_its_own_time():
    one = canary(FakeChallenger(), 1.0, block_s=1, from_block=0)
    counted = counter(one.arms)
    series, decisions, _ = decided(FakeChallenger(), share=1.0)
    mine = [d for d in decisions if d.experiment][:1]
    late = [structs.replace(mine[0], event_time_ns=5 * 10**9 - 1, assigned="champion")]
    for rows in (mine, late):
        list(counted.take(rows))
    assert list(counted.dump().units.values()) == [1]
    assert not counted.dump().broken
    assert series.blocks.size


def test_a_share_that_a_gateway_heard_of_late_makes_its_block_count_for_nothing():
    one = canary(FakeChallenger(), 0.5, block_s=1)
    _, decisions, _ = decided(FakeChallenger(), share=0.5)
    first = next(d for d in decisions if d.experiment)
    counted = counter(one.arms)
    for told, broken in ((first.experiment, False), ("fresh@4", True)):
        list(counted.take([structs.replace(first, experiment=told)]))
        assert counted.dump().broken is broken


def test_a_server_that_answers_nobody_is_no_fault_of_the_challengers():
    series, decisions, _ = decided(FakeChallenger(late=PredictorTimeout("late")))
    some = next(d for d in decisions if d.fallback)
    for version, errors in (("7", 1), ("", 0)):
        arm = LiveArm()
        count(arm, structs.replace(some, model_version=version), flips=False)
        assert arm.errors == errors
    assert series.total("errors", 1) > 0


def test_what_a_champions_row_waited_for_a_challenger_is_the_challengers():
    _, decisions, _ = decided(FakeChallenger())
    some = next(d for d in decisions if d.assigned == "newer")
    waited = structs.replace(some.stages, features_us=500.0, inference_us=9000.0, decide_us=500.0, waited_us=8000.0)
    for assigned, took_ms in (("champion", 2.0), ("newer", 10.0)):
        arm = LiveArm()
        count(arm, structs.replace(some, assigned=assigned, stages=waited), flips=False)
        assert percentile(arm.latencies, 0.99) == pytest.approx(took_ms, rel=0.05)


def test_errors_are_seen_where_the_champion_has_no_rows():
    series = LiveSeries(EXPERIMENT.arms, 1)
    bad = LiveArm(units=1, rows=5, errors=5, latencies={step_of(2.0): 5})
    for block in range(30):
        series.add(LiveOutcome(0, block, 1e6, 1.0, whole=True, arms=(LiveArm(), bad)))
    series.end(99)
    assert [g.metric for g in evaluate_live(EXPERIMENT, series, NOTHING)[0].breached] == ["error_rate"]


def test_of_two_that_are_alike_none_is_accused_at_a_small_share():
    rng = np.random.default_rng(7)
    guarded = structs.replace(
        EXPERIMENT, guardrails=(GuardedMetric("turnover", 0.5), GuardedMetric("drawdown", 50.0), GuardedMetric("flip_rate", 0.05))
    )  # fmt: skip
    accused = 0
    for _ in range(20):
        series = LiveSeries(EXPERIMENT.arms, 1)
        for block in range(300):
            treated = rng.random(20) < 0.05
            profit, traded = rng.normal(0.0, 300.0, 20), rng.exponential(1e4, 20)
            arms = tuple(
                LiveArm(
                    units=int(of.sum()), rows=10 * int(of.sum()), answered=10 * int(of.sum()), flips=int(of.sum()),
                    traded=float(traded[of].sum()), profit=float(profit[of].sum()),
                )
                for of in (~treated, treated)
            )  # fmt: skip
            series.add(LiveOutcome(0, block, 1e6, 0.05, whole=True, arms=arms))
        series.end(999)
        accused += bool(evaluate_live(guarded, series, NOTHING)[0].breached)
    assert accused <= 1

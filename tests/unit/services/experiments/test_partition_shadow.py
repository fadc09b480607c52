"""Arms decide the same ticks by the same rules, each on its own book."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from msgspec import structs

from services.experiments.arm_book import ArmAnswers, flips
from services.experiments.partition_shadow import (
    ChampionChanged,
    DecidedTick,
    PartitionShadow,
    recorded_answers,
    regimes_of,
)
from tests.fakes import limit_set
from tests.recorded_desk import BAND, limits, recorded
from trading.decision.schema import CODES, Action, Reason
from trading.decision.wire import decode_decision
from trading.events import Command
from trading.experiments.definition import (
    Challenger,
    ExperimentDefinition,
    PrimaryMetric,
    ServedModel,
    TradingCosts,
)
from trading.intake import admit
from trading.replay.published import Published

SMALL = "simulate:regimes?seed=3&ticks=4000&symbols=4"
FREE = TradingCosts(0.0, 0.0)
EXPERIMENT = ExperimentDefinition(
    1, "one", ServedModel("trading_decision", 7), (Challenger("other", "trading_decision", 8),), PrimaryMetric(0.1),
    block="1s", costs=FREE,
)  # fmt: skip


@pytest.fixture(scope="module")
def log():
    """Of a desk whose orders count as filled: a virtual book is what its book is."""
    logs = recorded(SMALL, 4000, assumed=True)
    return max(logs.values(), key=lambda one: len(one.published))


def rows_of(log):
    told = {}
    for payload in log.published:
        decision = decode_decision(payload)
        told[int(decision.decision_id.rpartition("-")[2])] = Published(payload, decision)
    return [
        DecidedTick(m, admit(m.payload, m.appended_ns), told[m.offset]) for m in log.messages if m.offset in told
    ]


def shadow(log, experiment=EXPERIMENT, first_block=0):
    return PartitionShadow(log.partition, experiment, limits(), log, BAND, first_block)


def same_answers(rows, **changed):
    found = recorded_answers([row.published.decision for row in rows])
    return found._replace(**changed)


def run(one, rows, answers, size=333):
    blocks = []
    for begin in range(0, len(rows), size):
        part = rows[begin : begin + size]
        end = begin + size
        blocks += one.take(part, {"champion": same_answers(part), "other": answers.part(begin, end)})
    return blocks


def test_the_champions_book_trades_what_the_desk_traded(log):
    rows = rows_of(log)
    one = shadow(log)
    blocks = run(one, rows, same_answers(rows))
    blocks.append(one._close())
    decisions = [row.published.decision for row in rows]
    champion = [block.arms[0] for block in blocks]
    assert len(blocks) > 20
    assert sum(arm.rows for arm in champion) == len(rows)
    assert sum(arm.orders for arm in champion) == sum(d.verdict is not None for d in decisions)
    denied = sum(d.reason is Reason.DENIED for d in decisions)
    assert sum(arm.denied for arm in champion) == denied > 0
    traded = {d.symbol: 0.0 for d in decisions}
    for d in decisions:
        traded[d.symbol] += d.quantity
    book = one._books[0].book
    assert {s: pytest.approx(q) for s, q in traded.items()} == {s: book.quantity(s) for s in traded}
    assert any(d.action is not Action.HOLD for d in decisions)
    # And whoever says the same, does the same.
    for block in blocks:
        assert block.arms[1] == block.arms[0]


def test_what_the_market_was_like_is_told_by_the_rows_that_the_champion_saw(log):
    rows = rows_of(log)
    one = shadow(log)
    blocks = [*run(one, rows, same_answers(rows)), one._close()]
    seen = [d.regime_probabilities for d in (row.decision for row in rows) if d.regime_probabilities]
    assert sum(sum(block.regimes) for block in blocks) == len(seen) > 1000
    likeliest = Counter(max(range(3), key=told.__getitem__) for told in seen)
    assert [sum(block.regimes[k] for block in blocks) for k in range(3)] == [likeliest[k] for k in range(3)]
    # Of a challenger's rows it is not the champion's word.
    other = structs.replace(rows[0].decision, assigned="newer", regime_probabilities=[1.0, 0.0, 0.0])
    assert regimes_of([other]).tolist() == [0, 0, 0]


def test_batches_do_not_matter(log):
    rows = rows_of(log)
    answers = same_answers(rows, targets=np.where(np.arange(len(rows)) % 7 == 0, 0.5, -0.25))
    found = [run(shadow(log), rows, answers, size) for size in (1, 97, 5000)]
    assert found[0] == found[1] == found[2]


def test_an_arm_with_other_targets_earns_by_itself(log):
    rows = rows_of(log)
    plain = run(shadow(log), rows, same_answers(rows))
    flat = run(shadow(log), rows, same_answers(rows, targets=np.zeros(len(rows))))
    assert [block.arms[0] for block in flat] == [block.arms[0] for block in plain]
    assert {block.arms[1].traded for block in flat} == {0.0}
    assert {block.arms[1].profit for block in flat} == {0.0}
    assert any(block.arms[0].profit != 0.0 for block in flat)


def test_costs_are_paid_of_what_is_traded(log):
    rows = rows_of(log)
    dear = structs.replace(EXPERIMENT, costs=TradingCosts(10.0, 5.0))
    plain, paid = (run(shadow(log, one), rows, same_answers(rows)) for one in (EXPERIMENT, dear))
    for before, after in zip(plain, paid, strict=True):
        assert after.arms[0].fees == pytest.approx(before.arms[0].traded * 15e-4)
        assert after.arms[0].profit == pytest.approx(before.arms[0].profit - after.arms[0].fees)


def test_a_partition_counts_from_the_first_block_that_it_saw_whole(log):
    rows = rows_of(log)
    numbers = [block.block for block in run(shadow(log), rows, same_answers(rows))]
    later = run(shadow(log, first_block=None), rows, same_answers(rows))
    assert [block.block for block in later] == numbers[1:]


def test_time_passes_where_no_tick_has_come_yet(log):
    """A partition that begins late begins no block that others have ended."""
    rows = rows_of(log)
    numbers = [block.block for block in run(shadow(log), rows, same_answers(rows))]
    one = shadow(log)
    assert list(one.pass_to(numbers[5])) == []
    assert [block.block for block in run(one, rows, same_answers(rows))] == numbers[5:]


def test_blocks_before_the_first_count_for_nothing(log):
    rows = rows_of(log)
    numbers = [block.block for block in run(shadow(log), rows, same_answers(rows))]
    later = run(shadow(log, first_block=numbers[10]), rows, same_answers(rows))
    assert [block.block for block in later] == numbers[10:]
    assert later[0].arms[0].rows > 0


def test_a_row_without_an_answer_is_held_and_counted(log):
    rows = rows_of(log)
    lost = np.arange(len(rows)) % 2 == 0
    answers = same_answers(
        rows, targets=np.where(lost, np.nan, 0.1), held=np.where(lost, CODES[Reason.PREDICTOR_UNAVAILABLE], -1).astype(np.int8)
    )  # fmt: skip
    blocks = run(shadow(log), rows, answers, 5000)
    errors, rows_decided, answered = (
        sum(getattr(block.arms[1], name) for block in blocks) for name in ("errors", "rows", "answered")
    )
    assert errors + answered == rows_decided
    assert 0.4 < errors / rows_decided < 0.6


LIVE = (Reason.DEADLINE, Reason.SUPERSEDED, Reason.PREDICTOR_TIMEOUT, Reason.PREDICTOR_UNAVAILABLE)


@pytest.mark.parametrize("reason", LIVE)
def test_what_the_live_path_had_no_time_for_no_arm_decides(log, reason):
    """Else a hiccup of Triton would be the champion's loss alone."""
    rows = rows_of(log)
    late = [
        row._replace(published=Published(b"", structs.replace(row.published.decision, reason=reason)))
        for row in rows
    ]
    blocks = run(shadow(log), late, same_answers(rows, targets=np.full(len(rows), 1.0)))
    assert {(arm.orders, arm.errors) for block in blocks for arm in block.arms} == {(0, 0)}


def test_time_that_goes_back_stays_in_its_block(log):
    rows = rows_of(log)
    at = len(rows) // 2
    back = structs.replace(rows[at].published.decision, event_time_ns=rows[0].published.decision.event_time_ns)
    moved = [*rows[:at], rows[at]._replace(published=Published(b"", back)), *rows[at + 1 :]]
    numbers = [block.block for block in run(shadow(log), moved, same_answers(moved))]
    assert numbers == sorted(set(numbers))


def test_limits_of_the_desk_hold_for_every_arm(log):
    rows = rows_of(log)
    command = Command("limits", "", "smaller", "test", 0)
    small = limit_set(3, max_order_notional=0.001)

    class Told:
        def commands(self, start, stop):
            assert (start, stop) == (0, 5)
            return [(command, small)]

    told = [
        row._replace(published=Published(b"", structs.replace(row.published.decision, control_to=5)))
        for row in rows
    ]
    one = PartitionShadow(log.partition, EXPERIMENT, limits(), Told(), BAND, 0)
    blocks = run(one, told, same_answers(rows))
    assert sum(arm.traded for block in blocks for arm in block.arms) < 1.0


def test_another_champion_ends_the_comparison(log):
    rows = rows_of(log)
    at = len(rows) // 2
    other = structs.replace(rows[at].published.decision, model_version="9")
    moved = [*rows[:at], rows[at]._replace(published=Published(b"", other)), *rows[at + 1 :]]
    one, blocks = shadow(log), []
    with pytest.raises(ChampionChanged, match=r"decided by trading_decision/9, and .* is trading_decision/7"):
        for begin in range(0, len(moved), 100):
            part = moved[begin : begin + 100]
            blocks += one.take(part, {"champion": same_answers(part), "other": same_answers(part)})
    assert blocks


@pytest.mark.parametrize(
    ("rows", "signs", "count", "last"),
    [
        ([0, 0, 0], [1, -1, 1], 2, [1, 0]),
        ([0, 1, 0, 1], [1, -1, 1, -1], 0, [1, -1]),
        # No target is no sign: what it was before stands.
        ([0, 0, 0], [1, 0, -1], 1, [-1, 0]),
        ([0, 0], [0, 0], 0, [0, 0]),
        ([], [], 0, [0, 0]),
    ],
)
def test_flips(rows, signs, count, last):
    known = np.zeros(2)
    assert flips(np.array(rows, np.int64), np.array(signs, float), known) == count
    assert known.tolist() == last
    if count == 2:
        assert flips(np.array([0]), np.array([-1.0]), known) == 1


def test_no_row_is_no_outcome(log):
    nothing = ArmAnswers(np.zeros(0), np.zeros(0, np.int8))
    assert list(shadow(log).take([], {"champion": nothing, "other": nothing})) == []

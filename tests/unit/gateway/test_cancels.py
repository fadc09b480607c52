"""A stop cancels what works at the broker: at once, each order once, and again where it did not arrive."""

from __future__ import annotations

import pytest

from gateway.cancels import OrderCanceller
from gateway.partitions import PartitionStates
from gateway.ports import Ports
from tests.fakes import (
    FakeCancels,
    FakeClock,
    FakeEvents,
    FakeMetrics,
    FakePredictor,
    FakeSink,
    FakeSnapshots,
    FakeSource,
    FakeStates,
    limit_set,
)
from tests.unit.gateway.test_pipeline import POLICY, Bench
from trading.events import CancelOrder, ExecutionReport, PartitionEvents, ReportKind
from trading.portfolio.book import Book
from trading.risk.trading_state import TradingState
from trading.state.partition import PartitionState
from trading.state.recovery import Restored

LIMITS = limit_set(max_order_notional=1e9, max_concentration=None)
ACTIVE, REDUCING, HALTED, KILLED = TradingState


def working(*numbers):
    """A partition whose orders of these numbers work."""
    state = PartitionState(LIMITS)
    state.book.observe("A", 1, 100.0)
    for number in numbers:
        state.book.accept("A", 5.0, 100.0, number, assumed=False)
    return state


@pytest.fixture
def desk():
    return Desk()


class Desk:
    """Two partitions with working orders, and how the broker is asked."""

    def __init__(self):
        self.states, self.sink, self.metrics = PartitionStates(), FakeCancels(), FakeMetrics()
        self.published, self.state, self.events = FakeSink(), FakeStates(), FakeEvents()
        self.states.put(0, working(4, 7))
        self.states.put(3, working(2))
        self.safe(0, 8)
        self.safe(3, 10)
        ports = Ports(
            FakeSource([]), FakePredictor(), self.published, FakeSnapshots(), self.state, FakeClock(), self.metrics,
            events=self.events,
        )  # fmt: skip
        self.canceller = OrderCanceller(ports, self.sink, self.states)

    def safe(self, partition, offset):
        """Everything before it is published for good."""
        self.published.begin(partition, offset, 0)

    def look(self, state):
        self.state.state = state
        self.canceller.look()

    def asked(self):
        found, self.sink.sent = [(p, cancel.number) for p, cancel in self.sink.sent], []
        return found


def test_what_works_is_cancelled_when_the_desk_is_stopped_and_only_once(desk):
    for state in (ACTIVE, REDUCING):
        desk.look(state)
        assert desk.asked() == []
    desk.look(KILLED)
    first = desk.sink.sent[0][1]
    assert first == CancelOrder(
        "market.ticks-0-4", 4, "A", 5.0, KILLED, FakeClock().now_ns(), LIMITS.account, LIMITS.strategy
    )
    assert desk.asked() == [(0, 4), (0, 7), (3, 2)]
    desk.look(KILLED)
    assert desk.asked() == []
    assert desk.metrics.cancelled_orders == 3


def test_an_order_that_is_seen_to_work_later_is_cancelled_then(desk):
    desk.look(HALTED)
    desk.asked()
    desk.states.of(3).book.accept("A", 1.0, 100.0, 9, assumed=False)
    desk.look(HALTED)
    assert desk.asked() == [(3, 9)]


def test_a_cancel_waits_until_its_order_is_published_and_so_lies_behind_it(desk):
    desk.safe(0, 7)  # the order of 7 is on its way
    desk.look(KILLED)
    assert desk.asked() == [(0, 4), (3, 2)]
    desk.safe(0, 8)
    desk.look(KILLED)
    assert desk.asked() == [(0, 7)]


def test_what_has_ended_is_not_cancelled_though_no_tick_has_taken_the_report_yet(desk):
    """After a feed has died, say."""
    report = ExecutionReport("market.ticks-0-4", 4, 0, "A", ReportKind.FILL, 5.0, 100.0, 0.0, 0.0, 0)
    desk.events.waiting[0] = PartitionEvents([], 0, [report], 1)
    desk.look(KILLED)
    assert desk.asked() == [(0, 7), (3, 2)]


def test_what_did_not_arrive_is_asked_again(desk):
    desk.look(HALTED)
    desk.sink.fail()
    desk.look(HALTED)
    assert desk.asked() == [(0, 4), (0, 7), (3, 2)]


def test_who_rebuilds_a_partition_asks_again_and_a_second_stop_too(desk):
    desk.look(HALTED)
    desk.asked()
    desk.canceller.forget([3])
    desk.look(HALTED)
    assert desk.asked() == [(3, 2)]
    desk.look(ACTIVE)
    desk.look(KILLED)
    assert desk.asked() == [(0, 4), (0, 7), (3, 2)]


def test_a_pipeline_that_has_no_ticks_and_no_room_cancels_all_the_same():
    bench = Bench()
    cancels = FakeCancels()
    bench.build(POLICY, cancels=cancels)
    bench.state.put(2, working(5))
    bench.sink.begin(2, 6, 0)
    bench.pipeline.turn()
    assert cancels.sent == []
    bench.states.state = KILLED
    bench.pipeline._publisher.take_room = lambda _: False
    bench.pipeline.turn()
    assert [(p, cancel.number) for p, cancel in cancels.sent] == [(2, 5)]
    # The same partition, rebuilt.
    bench.pipeline.adopt(2, Restored(working(5, 6), 7, 0, []))
    bench.pipeline.turn()
    assert [cancel.number for _, cancel in cancels.sent] == [5, 5, 6]


def test_a_stop_is_carried_out_while_the_pipeline_waits_for_what_it_has_published():
    """As it does before it rebuilds a partition whose orders did not leave."""
    bench, cancels = Bench(), FakeCancels()
    bench.build(POLICY, cancels=cancels)
    bench.state.put(2, working(5))
    bench.sink.begin(2, 6, 0)
    publisher, asked = bench.pipeline._publisher, []

    def not_idle_until_the_stop_is_carried_out(_):
        asked.append(len(cancels.sent))
        return bool(cancels.sent)

    publisher.start(failed=lambda: None, meanwhile=bench.pipeline._look_for_stops)
    publisher.is_idle_within = not_idle_until_the_stop_is_carried_out
    bench.states.state = KILLED
    publisher.wait_until_idle()
    publisher.stop()
    assert asked == [0, 1]


def test_where_orders_count_as_filled_nothing_is_cancelled():
    bench = Bench()
    bench.state.put(0, working(5))
    bench.states.state = KILLED
    bench.pipeline.turn()
    assert isinstance(bench.state.of(0).book, Book)
    assert bench.metrics.cancelled_orders == 0

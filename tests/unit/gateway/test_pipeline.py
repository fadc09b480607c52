"""The pipeline against fakes: every message ends in exactly one decision or dead letter, in order."""

from __future__ import annotations

import threading
import time

import msgspec
import pytest

from gateway.partitions import PartitionStates
from gateway.pipeline import HOLD_AFTER_NS, Pipeline, PipelineSettings
from gateway.ports import Ports, RawBatch, Stream
from gateway.publisher import POLL_S
from tests.fakes import (
    FakeClock,
    FakeEvents,
    FakeMetrics,
    FakePredictor,
    FakeReservations,
    FakeSink,
    FakeSnapshots,
    FakeSource,
    FakeStates,
    limit_set,
    raw_batch,
)
from trading.dead_letters import dead_letter
from trading.decision.policy import DecisionPolicy
from trading.decision.schema import Action, Reason, StageTimes
from trading.encoding import encode
from trading.errors import InvalidPrediction, PredictorTimeout, PredictorUnavailable, ServiceUnavailable
from trading.events import Command, ExecutionReport, PartitionEvents, ReportKind
from trading.features.definitions import WARM_TICKS
from trading.intake import Admission
from trading.market import Tick, TickBatch
from trading.risk.trading_state import TradingState
from trading.risk.verdict import Outcome
from trading.state.codec import decode_snapshot, encode_snapshot
from trading.state.partition import PartitionState
from trading.state.recovery import Restored

SECOND = 1_000_000_000
START = 1_600_000_000 * SECOND
LIMITS = limit_set(max_order_notional=1e6, max_concentration=None)
POLICY = DecisionPolicy(LIMITS)


def quotes(n, first=0, symbol="A", price=100.0):
    return [Tick(symbol, START + (first + k) * SECOND, price - 0.01, price + 0.01, 1.0, 1.0) for k in range(n)]


class Bench:
    """A pipeline on fakes."""

    def __init__(
        self,
        batches=(),
        predictor=None,
        clock=None,
        at_once=True,
        states=None,
        settings=None,
        admission=None,
        tracer=None,
    ):
        self.clock = clock or FakeClock()
        self.source = FakeSource([b if not isinstance(b, list) else raw_batch(b, self.clock) for b in batches])
        self.predictor = predictor or FakePredictor()
        self.sink = FakeSink(at_once=at_once)
        self.snapshots = FakeSnapshots()
        self.states = states or FakeStates()
        self.metrics = FakeMetrics()
        self.state = PartitionStates(lambda: PartitionState(LIMITS))
        self.settings, self.admission = settings or PipelineSettings(), admission or Admission()
        self.build(POLICY, tracer=tracer)

    def build(self, policy, **more):
        ports = Ports(
            self.source, self.predictor, self.sink, self.snapshots, self.states, self.clock, self.metrics, **more
        )
        self.pipeline = Pipeline(ports, self.state, policy, self.admission, self.settings)

    def run(self):
        thread = threading.Thread(target=self._stop_when_exhausted)
        thread.start()
        self.pipeline.run()
        thread.join()
        return self.sink.decisions

    def _stop_when_exhausted(self):
        # Whatever must be compiled first; and never a run without an end.
        try:
            assert self.source.exhausted.wait(240)
        finally:
            self.pipeline.stop()


def test_every_tick_gets_one_decision_in_order_with_its_id():
    clock = FakeClock()
    batches = [raw_batch(quotes(30, first=30 * k), clock, first_offset=30 * k, partition=2) for k in range(5)]
    bench = Bench(batches, clock=clock)
    decisions = bench.run()
    assert [d.decision_id for d in decisions] == [f"market.ticks-2-{k}" for k in range(150)]
    assert bench.source.committed == {2: 150}


def test_evidence_is_complete_once_warm():
    bench = Bench([quotes(WARM_TICKS + 1)])
    last = bench.run()[-1]
    assert (last.action, last.reason, last.warm) == (Action.HOLD, Reason.WITHIN_BAND, True)
    bought = bench.sink.decisions[-2]
    assert bought.action is Action.BUY
    assert bought.verdict is not None
    assert len(bought.features) == 32
    assert bought.regime_probabilities == [0.5, 0.25, 0.25]
    assert bought.target_position == 0.5
    assert bought.model_version == "7"
    assert (bought.position_before, bought.position_after) == (0.0, 500.0)
    assert last.position_before == 500.0


def test_what_is_no_tick_becomes_a_dead_letter_and_spoils_nothing():
    good = quotes(2)
    bench = Bench([[good[0], b"not json", None, good[1]]])
    decisions = bench.run()
    assert [d.decision_id for d in decisions] == ["market.ticks-0-0", "market.ticks-0-3"]
    assert [(letter.offset, letter.payload) for letter in bench.sink.letters] == [(1, "not json"), (2, "")]
    assert "malformed" in bench.sink.letters[0].reason
    assert bench.source.committed == {0: 4}
    assert bench.metrics.letters == 2


def test_a_batch_of_nothing_but_rubbish_is_survived():
    bench = Bench([[b"x", b"y"], quotes(1)])
    assert len(bench.run()) == 1
    assert len(bench.sink.letters) == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PredictorTimeout("slow"), Reason.PREDICTOR_TIMEOUT),
        (PredictorUnavailable("gone"), Reason.PREDICTOR_UNAVAILABLE),
        (InvalidPrediction("shape"), Reason.PREDICTOR_INVALID),
    ],
)
def test_a_failed_inference_holds_every_tick_with_the_reason(error, reason):
    bench = Bench([quotes(WARM_TICKS + 5)], predictor=FakePredictor(error=error))
    decisions = bench.run()
    assert len(decisions) == WARM_TICKS + 5
    assert {(d.action, d.reason) for d in decisions} == {(Action.HOLD, reason)}
    assert all(d.regime_probabilities == [] and d.target_position is None for d in decisions)
    assert all(len(d.features) == 32 for d in decisions)


def test_only_the_rows_that_are_not_finite_are_held():
    predictor = FakePredictor()
    predictor.broken_rows = {WARM_TICKS + 1}
    decisions = Bench([quotes(WARM_TICKS + 3)], predictor=predictor).run()
    held = [k for k, d in enumerate(decisions) if d.reason is Reason.PREDICTOR_INVALID]
    assert held == [WARM_TICKS + 1]


def test_a_tick_whose_budget_is_spent_is_held_and_not_sent_for_inference():
    clock = FakeClock()
    late = raw_batch(quotes(WARM_TICKS + 3), clock)
    clock.advance(ms=51)
    bench = Bench([late], clock=clock)
    decisions = bench.run()
    assert {d.reason for d in decisions} == {Reason.DEADLINE}
    assert bench.predictor.batches == []


def test_a_tick_that_is_late_after_inference_is_held():
    clock = FakeClock()
    predictor = FakePredictor()
    original = predictor._predict
    predictor._predict = lambda n: (clock.advance(ms=60), original(n))[1]
    decisions = Bench([raw_batch(quotes(WARM_TICKS + 3), clock)], predictor=predictor, clock=clock).run()
    assert {d.reason for d in decisions} == {Reason.DEADLINE}


def test_inference_gets_what_is_left_of_the_budget():
    clock = FakeClock()
    batch = raw_batch(quotes(1), clock)
    clock.advance(ms=20)
    bench = Bench([batch], clock=clock)
    bench.run()
    assert bench.predictor.timeouts == [pytest.approx(0.030)]


def test_late_ticks_still_move_the_features():
    clock = FakeClock()
    stream = quotes(100)
    late = raw_batch(stream[:50], clock)
    clock.advance(ms=100)
    rest = raw_batch(stream[50:], clock, first_offset=50)
    mixed = Bench([late, rest], clock=clock).run()
    punctual = Bench([stream]).run()
    assert [d.features for d in mixed] == [d.features for d in punctual]


def test_halted_denies_and_says_so():
    bench = Bench([quotes(WARM_TICKS + 2)], states=FakeStates(TradingState.HALTED))
    last = bench.run()[-1]
    assert (last.reason, last.trading_state) == (Reason.DENIED, TradingState.HALTED)
    assert last.verdict is not None
    assert last.verdict.broken == ("trading_state",)


def test_nothing_is_committed_before_it_is_delivered():
    bench = Bench([quotes(10)], at_once=False)
    bench.sink.flush = lambda timeout_s: None  # the broker never confirms
    bench.run()
    assert bench.source.committed == {}


def test_a_drain_settles_delivers_and_commits_what_was_read():
    bench = Bench([quotes(10)], at_once=False)
    assert len(bench.run()) == 10
    assert bench.source.committed == {0: 10}


def test_a_failed_delivery_ends_the_gateway_with_its_reason():
    bench = Bench([quotes(3)])

    def fail():
        raise ServiceUnavailable("a decision was not delivered: broker gone")

    bench.sink.poll = fail
    with pytest.raises(ServiceUnavailable, match="broker gone"):
        bench.pipeline.run()


def test_partitions_have_books_and_clocks_of_their_own():
    clock = FakeClock()
    one = raw_batch(quotes(WARM_TICKS + 1), clock, partition=0)
    other = raw_batch(quotes(WARM_TICKS + 1), clock, partition=1)
    bench = Bench([one, other], clock=clock)
    bench.run()
    assert bench.state.of(0).book.quantity("A") == bench.state.of(1).book.quantity("A") == 500.0


def test_batch_boundaries_do_not_change_a_decision():
    stream = quotes(150)
    clock = FakeClock()
    pieces = [raw_batch(stream[a : a + 7], clock, first_offset=a) for a in range(0, 150, 7)]

    found, wanted = Bench(pieces, clock=clock).run(), Bench([stream]).run()
    assert [essence(d) for d in found] == [essence(d) for d in wanted]


def test_a_replay_leaves_the_same_state_as_deciding():
    stream = quotes(80)
    decided = Bench([stream])
    decided.run()
    replayed, sent = PartitionState(LIMITS), decided.clock.now_ns()
    orders = {k: (d.quantity, d.reference_price) for k, d in enumerate(decided.sink.decisions) if d.quantity}
    assert orders
    for a, b in ((0, 33), (33, 80)):
        replayed.replay(stream[a:b], [sent] * (b - a), range(a, b), orders, assumed=True)
    tail = TickBatch.from_ticks(quotes(3, first=80))
    assert replayed.observe(tail).values.tobytes() == decided.state.of(0).observe(tail).values.tobytes()
    assert replayed.book.now_ns == decided.state.of(0).book.now_ns
    assert replayed.book.dump() == decided.state.of(0).book.dump()


def test_trades_do_not_keep_a_dead_quote_alive():
    stream = quotes(WARM_TICKS - 1)
    last = stream[-1].event_time_ns
    trade = Tick("A", last + 6 * SECOND, last=100.0, last_size=1.0)
    judged = Bench([[*stream, trade]]).run()[-1]
    assert judged.reason is Reason.DENIED
    assert judged.verdict is not None
    assert judged.verdict.broken == ("stale_data",)


def test_a_tick_from_the_future_is_a_dead_letter_and_moves_no_clock():
    clock = FakeClock()
    future = Tick("A", clock.now_ns() + 61 * SECOND, 1.0, 2.0)
    bench = Bench([raw_batch([future, *quotes(2)], clock)], clock=clock)
    assert len(bench.run()) == 2
    assert "61 s ahead" in bench.sink.letters[0].reason
    assert bench.state.of(0).book.now_ns == START + SECOND


def test_a_producer_clock_that_runs_ahead_does_not_lengthen_the_budget():
    clock = FakeClock()
    batch = raw_batch(quotes(1), clock)
    late = [msgspec.structs.replace(batch.slices[0], sent_ns=[clock.now_ns() + 600 * SECOND])]
    ahead = msgspec.structs.replace(batch, slices=late)
    bench = Bench([ahead], clock=clock)
    bench.run()
    assert bench.predictor.timeouts == [pytest.approx(0.050)]


def test_nothing_of_an_abandoned_partition_is_published():
    clock = FakeClock()
    bench = Bench([raw_batch(quotes(5), clock, partition=0), raw_batch(quotes(5), clock, partition=1)], clock=clock)
    bench.pipeline._publisher._abandoned.add(0)
    assert {d.decision_id.split("-")[1] for d in bench.run()} == {"1"}
    assert bench.source.committed == {1: 5}


def test_a_huge_key_or_payload_makes_a_small_dead_letter():
    clock = FakeClock()
    batch = raw_batch([b"\xff" * 500_000], clock)
    batch.slices[0].keys[0] = b"\xff" * 500_000
    bench = Bench([batch], clock=clock)
    bench.run()
    (letter,) = bench.sink.letters
    assert letter.payload_bytes == 500_000
    assert len(encode(letter)) < 20_000


def test_overload_decides_the_newest_tick_of_each_symbol_and_holds_the_superseded():
    clock = FakeClock()
    stream = [t for k in range(WARM_TICKS + 3) for t in (quotes(1, k, "A")[0], quotes(1, k, "B")[0])]
    waiting = raw_batch(stream, clock)
    clock.advance(ms=38)  # 12 ms of 50 are left
    bench = Bench([waiting], clock=clock)
    decisions = bench.run()
    assert [d.reason for d in decisions[:-2]] == [Reason.SUPERSEDED] * (len(stream) - 2)
    assert [(d.symbol, d.reason) for d in decisions[-2:]] == [("A", Reason.TARGET), ("B", Reason.TARGET)]
    assert [len(rows) for rows in bench.predictor.batches] == [2]
    assert [d.features for d in decisions] == [d.features for d in Bench([stream]).run()]


def test_what_is_asked_is_what_is_answered_when_rows_between_are_shed():
    clock = FakeClock()
    old, fresh = raw_batch(quotes(WARM_TICKS, 0, "A"), clock, partition=0), quotes(WARM_TICKS + 1, 0, "B")
    clock.advance(ms=60)
    both = msgspec.structs.replace(raw_batch(fresh, clock, partition=1))
    both.slices.insert(0, old.slices[0])
    predictor = FakePredictor()
    predictor.broken_rows = {WARM_TICKS}
    decisions = Bench([both], clock=clock, predictor=predictor).run()
    assert {d.reason for d in decisions if d.symbol == "A"} == {Reason.DEADLINE}
    assert [k for k, d in enumerate(decisions) if d.reason is Reason.PREDICTOR_INVALID] == [2 * WARM_TICKS]


def test_a_snapshot_and_the_rest_of_the_log_give_what_the_whole_log_gives():
    stream = quotes(160)
    clock = FakeClock()
    whole = Bench([stream])
    whole.run()
    first = Bench([raw_batch(stream[:90], clock), raw_batch(stream[90:100], clock, first_offset=90)], clock=clock)
    first.run()
    kept = [decode_snapshot(encode_snapshot(s, "log"), "log", 0) for s in first.snapshots.kept]
    assert [s.offset for s in kept] == [90, 100]
    for snapshot in kept:
        again = Bench([raw_batch(stream[snapshot.offset :], clock, first_offset=snapshot.offset)], clock=clock)
        again.pipeline.adopt(0, Restored(PartitionState.of(snapshot), snapshot.offset, 0, []))
        found = again.run()
        assert [essence(d) for d in found] == [essence(d) for d in whole.sink.decisions[snapshot.offset :]]


def test_no_snapshot_is_kept_before_its_decisions_are_safe():
    bench = Bench([quotes(10)], at_once=False)
    bench.sink.flush = lambda timeout_s: None
    bench.run()
    assert bench.snapshots.kept == []


def test_a_durable_snapshot_goes_with_the_decisions():
    bench = Bench([quotes(3)])
    bench.snapshots._records = [(Stream.SNAPSHOTS, b"chunk-0", b"state")]
    bench.run()
    assert bench.sink.snapshots == [(0, b"state")]


def test_letters_of_a_rebuilt_partition_are_published():
    bench = Bench([quotes(1)])
    letter = dead_letter("market.ticks", 3, 17, "no payload", None, None)
    bench.pipeline.adopt(3, Restored(PartitionState(), 18, 0, [letter]))
    bench.run()
    assert [(found.partition, found.offset) for found in bench.sink.letters] == [(3, 17)]


def test_a_flood_of_symbols_becomes_dead_letters_and_grows_nothing():
    stream = [*quotes(2, symbol="A"), *(quotes(1, symbol=f"X{k}")[0] for k in range(500)), *quotes(1, 2, "A")]
    bench = Bench([stream[:100], raw_batch(stream[100:], FakeClock(), 100)], admission=Admission(max_symbols=3))
    assert [d.symbol for d in bench.run()] == ["A", "A", "X0", "X1", "A"]
    assert len(bench.sink.letters) == 498
    assert "holds 3 symbols" in bench.sink.letters[0].reason


def test_only_listed_symbols_are_decided_where_a_list_is_given():
    bench = Bench([[*quotes(1), *quotes(1, symbol="B")]], admission=Admission(frozenset({"A"})))
    assert [d.symbol for d in bench.run()] == ["A"]
    assert "unknown symbol B" in bench.sink.letters[0].reason


def test_a_wall_clock_that_steps_back_gives_no_more_than_the_budget():
    clock = FakeClock()
    batch = raw_batch(quotes(1), clock)
    clock.advance(ms=-3_600_000)
    bench = Bench([batch], clock=clock)
    bench.run()
    assert bench.predictor.timeouts == [pytest.approx(0.050)]


def test_a_wall_clock_that_steps_ahead_holds():
    clock = FakeClock()
    batch = raw_batch(quotes(WARM_TICKS + 1), clock)
    clock.advance(ms=3_600_000)
    assert {d.reason for d in Bench([batch], clock=clock).run()} == {Reason.DEADLINE}


@pytest.mark.parametrize("max_batch", [1, 4])
def test_a_stalled_pipeline_stays_in_its_group_and_reads_no_more(max_batch):
    """Also where its batches are small, and wait for one another: for a part of the budget, not for ever."""
    room = 3
    clock = FakeClock()
    stream = quotes(8)
    batches = [raw_batch([t], clock, first_offset=k) for k, t in enumerate(stream)]
    settings = PipelineSettings(max_unpublished=room, max_batch=max_batch)
    bench = Bench(batches, clock=clock, settings=settings)
    gate, publish = threading.Event(), bench.sink.publish
    bench.sink.publish = lambda outbox, owned: (gate.wait(10), publish(outbox, owned))
    runner = threading.Thread(target=bench.run, daemon=True)
    runner.start()
    deadline = time.monotonic() + 10
    while bench.source.held < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
        clock.advance(ms=HOLD_AFTER_NS / 1e6 / 2)
    assert len(stream) - len(bench.source.batches) == room
    assert bench.pipeline.status().held
    gate.set()
    runner.join(10)
    assert len(bench.sink.decisions) == 8
    assert not bench.pipeline.status().held


class NotedClock(FakeClock):
    """Knows how long it was slept by, each time."""

    def __init__(self):
        super().__init__()
        self.slept = []

    def sleep(self, seconds):
        self.slept.append(seconds)
        super().sleep(seconds)


@pytest.mark.parametrize(
    ("budget_ms", "gather_s", "longest_s"), [(50, 0.012, 0.012), (10, 0.012, 0.0025), (60_000, 1.0, POLL_S)]
)
def test_ticks_gather_for_a_part_of_their_budget_and_never_so_long_that_a_stop_would_wait(
    budget_ms, gather_s, longest_s
):
    clock = NotedClock()
    batches = [raw_batch(quotes(120, first=120 * k), clock, first_offset=120 * k) for k in range(60)]
    settings = PipelineSettings(budget_ns=budget_ms * 1_000_000, gather_s=gather_s, max_batch=1024)
    bench = Bench(batches, clock=clock, settings=settings)
    bench.predictor.while_asked = lambda: clock.advance(ms=1)
    bench.run()
    assert max(clock.slept) == pytest.approx(longest_s, rel=0.2)
    assert max(clock.slept) <= longest_s


def test_the_producers_trace_id_is_kept_and_otherwise_one_is_made_of_the_place():
    clock = FakeClock()
    batch = raw_batch([*quotes(2), b"no tick"], clock)
    trace = "0af7651916cd43dd8448eb211c80319c"
    batch.slices[0].traceparents[0] = f"00-{trace}-b7ad6b7169203331-01".encode()
    bench = Bench([batch], clock=clock)
    first, second = bench.run()
    assert first.trace_id == trace
    assert len(second.trace_id) == 32
    assert second.trace_id != bench.sink.letters[0].trace_id
    assert second.trace_id.endswith("000000000001")


def essence(d):
    """All of a decision that must be the same whenever it is made."""
    return encode(msgspec.structs.replace(d, stages=StageTimes(0, 0, 0, 0), decided_at_ns=0))


def trading(**changes):
    """A pipeline that sends orders to a broker."""
    bench = Bench()
    bench.events = FakeEvents()
    policy = DecisionPolicy(LIMITS, assumed_fills=False)
    bench.build(policy, events=bench.events, reservations=changes.get("reservations"))
    return bench


def fill(decision, quantity, sequence=0):
    number = int(decision.decision_id.rsplit("-", 1)[1])
    return ExecutionReport(
        decision.decision_id, number, sequence, "A", ReportKind.FILL, quantity, 100.0, 0.0, 0.0, 0
    )  # fmt: skip


def test_orders_go_to_the_broker_and_work_until_its_reports_come():
    bench = trading()
    first, rest = quotes(WARM_TICKS), quotes(4, first=WARM_TICKS)
    bench.source.batches = [raw_batch(first, bench.clock)]
    bench.run()
    (order,) = bench.sink.orders
    decision = bench.sink.decisions[-1]
    assert (order.order_id, order.quantity, order.price) == (decision.decision_id, 500.0, decision.reference_price)
    assert (decision.position_before, decision.position_after, decision.fills_to) == (0.0, 500.0, 0)
    bench.events.waiting[0] = PartitionEvents([], 0, [fill(decision, 200.0)], 7)
    bench.source.batches = [raw_batch(rest[:2], bench.clock, first_offset=WARM_TICKS)]
    bench.source.exhausted.clear()
    bench.pipeline._stopping.clear()
    bench.run()
    held = bench.sink.decisions[-1]
    # What works is not ordered again.
    assert (held.reason, held.position_before, held.position_after) == (Reason.WITHIN_BAND, 200.0, 500.0)
    assert held.fills_to == 7
    assert bench.events.asked[-1] == (0, 0, 0)
    assert bench.sink.orders == [order]


def test_limits_come_before_a_tick_and_its_decision_says_so():
    bench = trading()
    tighter = limit_set(max_order_notional=10_000.0, max_concentration=None)
    command = Command("limits", "", "smaller", "somebody", 1)
    bench.source.batches = [raw_batch(quotes(WARM_TICKS - 1), bench.clock)]
    bench.run()
    bench.events.waiting[0] = PartitionEvents([(command, tighter)], 42, [], 0)
    bench.source.batches = [raw_batch(quotes(1, first=WARM_TICKS - 1), bench.clock, first_offset=WARM_TICKS - 1)]
    bench.source.exhausted.clear()
    bench.pipeline._stopping.clear()
    before, after = bench.sink.decisions[-1], bench.run()[-1]
    assert (before.limits_version, before.control_to) == (LIMITS.version, 0)
    assert (after.limits_version, after.control_to) == (tighter.version, 42)
    assert after.verdict.outcome is Outcome.CLIP
    assert after.quantity * after.reference_price <= 10_000.0
    assert bench.snapshots.kept[-1].control_to == 42


def test_a_batch_of_no_ticks_takes_nothing_that_no_decision_could_tell_of():
    bench = trading()
    bench.events.waiting[0] = PartitionEvents([], 42, [], 9)
    bench.source.batches = [raw_batch([b"no tick"], bench.clock)]
    bench.run()
    assert bench.events.asked == []
    assert bench.state.of(0).fills_to == 0


@pytest.mark.parametrize(("money", "quantity"), [(20_000.0, 199.98), (float("nan"), 0.0)])
def test_what_is_reserved_for_the_book_is_its_most(money, quantity):
    bench = trading(reservations=FakeReservations(money))
    limits = limit_set(max_order_notional=1e6, max_concentration=None, max_desk_notional=1e7, lot=0.01)
    bench.state.put(0, PartitionState(limits))
    bench.source.batches = [raw_batch(quotes(WARM_TICKS), bench.clock)]
    assert bench.run()[-1].quantity == quantity
    assert "desk_exposure" in bench.sink.decisions[-1].verdict.broken


def test_a_reset_reaches_the_book():
    bench = trading()
    state = PartitionState(LIMITS)
    state.book.tables.account[0].drawdown_latched = True
    bench.state.put(0, state)
    assert bench.state.books()[0].latched == ["drawdown"]
    bench.events.waiting[0] = PartitionEvents(
        [(Command("reset", "drawdown", "looked", "somebody", 1), None)], 3, [], 0
    )
    bench.source.batches = [raw_batch(quotes(1), bench.clock)]
    bench.run()
    assert bench.state.books()[0].latched == []


# ---- orders that must not leave any more --------------------------------------------------------


class StallingSink(FakeSink):
    """Before it publishes something happens; then it asks what it still may, as a sink does before each try."""

    def __init__(self, happens):
        super().__init__()
        self.happens = happens

    def publish(self, outbox, wanted):
        happens, self.happens = self.happens, lambda: None
        happens()
        super().publish(outbox, wanted)


def stalled(happens, target=0.5, ticks=WARM_TICKS + 3):
    """A desk that buys on its last ticks, and whose sink stalls before it publishes them."""
    bench = Bench(predictor=FakePredictor(target=target))
    bench.sink = StallingSink(lambda: happens(bench))
    bench.build(POLICY)
    bench.source.batches = [raw_batch(quotes(ticks), bench.clock)]
    bench.run()
    bench.pipeline.turn()  # the next one, as it would come
    return bench


def test_an_order_that_has_expired_while_it_waited_does_not_leave_and_is_decided_again():
    bench = stalled(lambda bench: bench.clock.advance(4_000))
    assert bench.sink.decisions == []
    assert bench.metrics.overtaken_shares == [True]
    assert bench.source.rebuilt == [0]
    # What was made of it is not kept either: a restart must not find an order that never left.
    assert bench.snapshots.kept == []
    assert bench.source.committed == {}


def test_an_order_that_was_decided_before_a_kill_does_not_leave_after_it():
    def kill(bench):
        bench.states.state = TradingState.KILLED

    bench = stalled(kill)
    assert (bench.sink.decisions, bench.metrics.overtaken_shares, bench.source.rebuilt) == ([], [False], [0])


def test_a_state_that_became_less_severe_holds_nothing_up():
    bench = Bench(predictor=FakePredictor(target=0.5), states=FakeStates(TradingState.REDUCING))

    def resume():
        bench.states.state = TradingState.ACTIVE

    bench.sink = StallingSink(resume)
    bench.build(POLICY)
    bench.source.batches = [raw_batch(quotes(WARM_TICKS + 3), bench.clock)]
    assert len(bench.run()) == WARM_TICKS + 3


def test_what_has_no_orders_leaves_however_late_it_is():
    bench = stalled(lambda bench: bench.clock.advance(60_000), ticks=WARM_TICKS - 1)
    assert len(bench.sink.decisions) == WARM_TICKS - 1
    assert bench.metrics.overtaken_shares == []


def test_what_was_decided_on_top_of_an_order_that_did_not_leave_is_not_published_either():
    bench = Bench(predictor=FakePredictor(target=0.5))
    bench.sink = StallingSink(lambda: bench.clock.advance(4_000))
    bench.build(POLICY)
    first, later = quotes(WARM_TICKS + 3), quotes(5, first=WARM_TICKS + 3)
    bench.source.batches = [
        raw_batch(first, bench.clock, partition=0),
        raw_batch(later, bench.clock, first_offset=WARM_TICKS + 3, partition=0),
        raw_batch(quotes(4, symbol="B"), bench.clock, partition=1),
    ]
    bench.run()
    assert {d.decision_id.split("-")[1] for d in bench.sink.decisions} == {"1"}
    assert bench.source.rebuilt == [0]


def test_an_order_says_when_it_expires_and_what_it_was_decided_under():
    bench = Bench(predictor=FakePredictor(target=0.5), settings=PipelineSettings(order_lifetime_ns=7 * SECOND))
    bench.build(DecisionPolicy(LIMITS, assumed_fills=False))
    bench.source.batches = [raw_batch(quotes(WARM_TICKS + 1), bench.clock)]
    bench.run()
    (order,) = bench.sink.orders
    assert order.expires_ns == order.sent_ns + 7 * SECOND
    assert order.state_version == bench.state.of(0).control_to


def test_what_was_lost_is_told_once_the_next_restart_finds_it_behind_the_commit():
    bench = Bench()
    state = PartitionState(LIMITS)
    bench.pipeline.adopt(0, Restored(state, 90, 0, [], lost=25))
    bench.run()
    assert bench.sink.decisions == []
    assert bench.source.committed == {0: 90}


def test_limits_that_arrive_between_two_partitions_of_a_batch_are_told_for_each_row():
    bench = Bench()
    events, other = FakeEvents(), limit_set(max_order_notional=7.0).whole()
    bench.build(POLICY, events=events)
    bench.source.batches = [
        RawBatch(
            [
                *raw_batch(quotes(3), bench.clock, partition=0).slices,
                *raw_batch(quotes(3), bench.clock, partition=1).slices,
            ],
            bench.clock.now_ns(),
        )
    ]
    told = Command("limits", "", "smaller", "somebody", 1)
    events.waiting[1] = PartitionEvents([(told, other)], 8, [], 0)
    found = {d.decision_id.split("-")[1]: (d.limits_version, d.control_to) for d in bench.run()}
    assert found == {"0": (LIMITS.version, 0), "1": (other.version, 8)}

"""The pipeline against fakes: every message ends in exactly one decision or dead letter, in order."""

from __future__ import annotations

import threading

import msgspec
import pytest

from gateway.domain.codec import encode
from gateway.domain.decision import DecisionPolicy
from gateway.domain.errors import InvalidPrediction, PredictorTimeout, PredictorUnavailable, ServiceUnavailable
from gateway.domain.features import WARM_TICKS
from gateway.domain.risk import Limits
from gateway.domain.schemas import Action, Reason, Tick, TradingState
from gateway.offsets import OffsetTracker
from gateway.pipeline import Pipeline, PipelineSettings
from gateway.state import GatewayState
from tests.fakes import FakeClock, FakeMetrics, FakePredictor, FakeSink, FakeSource, FakeStates, raw_batch

SECOND = 1_000_000_000
START = 1_600_000_000 * SECOND
POLICY = DecisionPolicy(limits=Limits(max_order_notional=1e6))


def quotes(n, first=0, symbol="A", price=100.0):
    return [Tick(symbol, START + (first + k) * SECOND, price - 0.01, price + 0.01, 1.0, 1.0) for k in range(n)]


class Bench:
    """A pipeline on fakes."""

    def __init__(self, batches=(), predictor=None, clock=None, at_once=True, states=None, settings=None):
        self.clock = clock or FakeClock()
        self.source = FakeSource([b if not isinstance(b, list) else raw_batch(b, self.clock) for b in batches])
        self.predictor = predictor or FakePredictor()
        self.tracker = OffsetTracker()
        self.sink = FakeSink(self.tracker.done, at_once=at_once)
        self.states = states or FakeStates()
        self.metrics = FakeMetrics()
        self.state = GatewayState()
        self.pipeline = Pipeline(
            self.source, self.predictor, self.sink, self.states, self.clock, self.metrics, self.state,
            self.tracker, POLICY, settings or PipelineSettings(),
        )  # fmt: skip

    def run(self):
        thread = threading.Thread(target=self._stop_when_exhausted)
        thread.start()
        self.pipeline.run()
        thread.join()
        return self.sink.decisions

    def _stop_when_exhausted(self):
        assert self.source.exhausted.wait(20)
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
    bench.pipeline._sink.flush = lambda timeout_s: None  # the broker never confirms
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

    def essence(decisions):
        return [(d.decision_id, d.action, d.quantity, d.features, d.position_after) for d in decisions]

    assert essence(Bench(pieces, clock=clock).run()) == essence(Bench([stream]).run())


def test_a_replay_leaves_the_same_state_as_deciding():
    stream = quotes(80)
    decided = Bench([stream])
    decided.run()
    replayed = GatewayState()
    replayed.replay(0, stream[:33])
    replayed.replay(0, stream[33:])
    tail = quotes(3, first=80)
    from gateway.domain.schemas import TickBatch

    batch = TickBatch.from_ticks(tail)
    assert replayed.features.update(batch).values.tobytes() == decided.state.features.update(batch).values.tobytes()
    assert replayed.of(0).clock.now_ns == decided.state.of(0).clock.now_ns


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
    assert bench.state.of(0).clock.now_ns == START + SECOND


def test_a_producer_clock_that_runs_ahead_does_not_lengthen_the_budget():
    clock = FakeClock()
    batch = raw_batch(quotes(1), clock)
    ahead = msgspec.structs.replace(batch, sent_ns=[clock.now_ns() + 600 * SECOND])
    bench = Bench([ahead], clock=clock)
    bench.run()
    assert bench.predictor.timeouts == [pytest.approx(0.050)]


def test_nothing_of_an_abandoned_partition_is_published():
    clock = FakeClock()
    bench = Bench([raw_batch(quotes(5), clock, partition=0), raw_batch(quotes(5), clock, partition=1)], clock=clock)
    bench.pipeline._abandoned.add(0)
    assert {d.decision_id.split("-")[1] for d in bench.run()} == {"1"}
    assert bench.source.committed == {1: 5}


def test_a_huge_key_or_payload_makes_a_small_dead_letter():
    clock = FakeClock()
    batch = msgspec.structs.replace(raw_batch([b"\xff" * 500_000], clock), keys=[b"\xff" * 500_000])
    bench = Bench([batch], clock=clock)
    bench.run()
    (letter,) = bench.sink.letters
    assert letter.payload_bytes == 500_000
    assert len(encode(letter)) < 20_000

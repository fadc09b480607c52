"""After the warm-up nothing is compiled any more, whatever a desk then goes through."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest

import trading
from gateway.warm_up import warm_up
from tests.fakes import FakeClock, FakeEvents, FakePredictor, limit_set
from tests.unit.gateway.test_pipeline import Bench, quotes
from trading.compiled import ENTRIES, entry, types_by_entry
from trading.decision.policy import DecisionPolicy
from trading.errors import PredictorUnavailable
from trading.events import Command, ExecutionReport, PartitionEvents, ReportKind
from trading.features.definitions import WARM_TICKS
from trading.models.prediction import to_prediction
from trading.portfolio.book import FIRST_ROWS, RESETS, Book
from trading.risk.self_test import prove_all
from trading.state.codec import decode_snapshot, encode_snapshot
from trading.state.partition import PartitionState

LIMITS = limit_set(max_order_notional=1e6, max_concentration=None)


class AsServed(FakePredictor):
    """Its arrays may not be written, as those of a message, and are looked at as those."""

    def _predict(self, n):
        given = super()._predict(n)
        outputs = [
            given.regime_probabilities, given.strategy_signals, given.strategy_weights,
            np.full((n, 1), self.target, np.float32),
        ]  # fmt: skip
        for array in outputs:
            array.flags.writeable = False
        return to_prediction(outputs, "7")


@pytest.fixture
def warm():
    """The types of each registered function after a warm-up, in a process that knows all of them."""
    for module in pkgutil.walk_packages(trading.__path__, "trading."):
        importlib.import_module(module.name)
    predictor = AsServed()
    warm_up(quotes(80), predictor, DecisionPolicy(limit_set()), FakeClock())
    assert [rows.shape for rows in predictor.batches] == [(80, 32)]
    return types_by_entry()


def desk(stream, *, assumed, events=None, error=None):
    """A whole pipeline on fakes; returns it after its run."""
    bench = Bench([stream], predictor=AsServed(error=error))
    bench.build(DecisionPolicy(LIMITS, assumed_fills=assumed), events=events)
    assert len(bench.run()) > 0
    return bench


def test_every_registered_function_is_used(warm):
    assert len(warm) >= 10
    assert all(warm.values()), warm


def test_a_whole_desk_compiles_nothing_after_the_warm_up(warm):
    stream = quotes(WARM_TICKS + 9)
    desk(stream, assumed=True)
    desk(stream, assumed=True, error=PredictorUnavailable("gone"))
    desk([stream[0], b"rubbish", None, *quotes(1, symbol="B"), *stream[1:]], assumed=True)
    many = [tick for k in range(3 * FIRST_ROWS) for tick in quotes(2, symbol=f"S{k}")]
    desk(many, assumed=False)
    reports = [
        ExecutionReport(f"market.ticks-0-{number}", number, 0, "A", kind, 1.0, 2.0, 0.5, 0.0, 3)
        for number, kind in enumerate(ReportKind)
    ]
    commands = [Command("reset", what, "test", "me", 1) for what in RESETS]
    told = [(Command("limits", "", "test", "me", 1), limit_set(capital=5e6)), *((c, None) for c in commands)]
    events = FakeEvents()
    events.waiting[0] = PartitionEvents(told, 7, reports, 3)
    bench = desk(stream, assumed=False, events=events)
    state = bench.state.of(0)
    restored = PartitionState.of(
        decode_snapshot(encode_snapshot(state.snapshot(0, 9, 0, state.dump_features()), "log"), "log", 0)
    )
    restored.replay(stream, [1] * len(stream), range(len(stream)), {2: (1.0, 3.0)}, assumed=False)
    restored.take(PartitionEvents(told, 9, reports, 5))
    prove_all(limit_set(max_value_at_risk=1e5), Book)
    assert types_by_entry() == warm


def test_what_is_left_out_is_named(warm):
    @entry
    def forgotten(x):
        return x

    try:
        with pytest.raises(AssertionError, match="leaves out .*forgotten"):
            warm_up(quotes(80), AsServed(), DecisionPolicy(limit_set()), FakeClock())
    finally:
        ENTRIES.remove(forgotten)

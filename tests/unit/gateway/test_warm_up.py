"""After the warm-up nothing is compiled any more: not with an answer, not without."""

from __future__ import annotations

import sys

from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher

from gateway.warm_up import warm_up
from tests.fakes import FakeClock, FakePredictor, limit_set
from tests.unit.gateway.test_pipeline import Bench, quotes
from trading.decision.policy import DecisionPolicy
from trading.errors import PredictorUnavailable
from trading.events import ExecutionReport, PartitionEvents, ReportKind
from trading.features.definitions import WARM_TICKS
from trading.state.partition import PartitionState


class AsServed(FakePredictor):
    """Its arrays may not be written, as those of a message."""

    def _predict(self, n):
        prediction = super()._predict(n)
        for array in (
            prediction.regime_probabilities, prediction.strategy_signals, prediction.strategy_weights,
        ):  # fmt: skip
            array.flags.writeable = False
        return prediction


def compiled():
    """Every entry point of what decides, with the types that it was compiled for."""
    modules = [module for name, module in sys.modules.items() if name.startswith("trading.")]
    found = {
        f"{entry.py_func.__module__}.{entry.py_func.__name__}": list(entry.signatures)
        for module in modules
        for entry in vars(module).values()
        if isinstance(entry, Dispatcher) and not isinstance(entry._cache, NullCache)
    }
    assert len(found) > 8
    return found


def test_after_the_warm_up_nothing_is_compiled_any_more():
    predictor = AsServed()
    warm_up(quotes(80), predictor, DecisionPolicy(limit_set()), FakeClock())
    assert [rows.shape for rows in predictor.batches] == [(80, 32)]
    before = compiled()
    stream = quotes(WARM_TICKS + 9)
    assert len(Bench([stream], predictor=AsServed()).run()) == len(stream)
    assert len(Bench([stream], predictor=AsServed(error=PredictorUnavailable("gone"))).run()) == len(stream)
    mixed = [stream[0], b"rubbish", *quotes(1, symbol="B"), *stream[1:]]
    assert len(Bench([mixed], predictor=AsServed()).run()) == len(stream) + 1
    state = PartitionState(limit_set())
    state.take(PartitionEvents([], 0, [ExecutionReport("o", 1, 0, "A", ReportKind.FILL, 1.0, 2.0, 0.0, 0.0, 3)], 1))
    assert compiled() == before
    used = {"decide_all", "write", "update_states", "apply"}
    assert used <= {name.rpartition(".")[2] for name, signatures in before.items() if signatures}

"""A real Triton outlives thousands of calls that come too late: nobody cancels one in the moment of its answer."""

from __future__ import annotations

import threading
from contextlib import closing
from time import perf_counter

import numpy as np
import pytest

from gateway.adapters.triton import TritonPredictor
from trading.errors import PredictorTimeout

pytestmark = pytest.mark.slow
MODEL, CALLERS = "trading_decision", 4
ROWS = np.zeros((8, 32), np.float32)


def late_calls(address, seed, many, failures):
    """Waits about as long as an answer takes, until so many were late. Cancelled ones kill a Triton within 30 s."""
    chance, late = np.random.default_rng(seed), 0
    with closing(TritonPredictor(address, MODEL, "")) as predictor:
        began = perf_counter()
        for _ in range(20):
            predictor.predict(ROWS, 5.0)
        usual_s = (perf_counter() - began) / 20
        while late < many and not failures:
            try:
                predictor.predict(ROWS, usual_s * chance.uniform(0.6, 1.4))
                usual_s *= 0.998
            except PredictorTimeout:
                usual_s *= 1.002
                late += 1
            except Exception as error:  # noqa: BLE001 - of a thread: the test shows it
                failures.append(error)


# Cancelled ones have killed it after 5,635: the short form shows that late calls are answered for, the long one that.
@pytest.mark.parametrize("each", [250, pytest.param(1500, marks=pytest.mark.long)])
def test_it_outlives_calls_that_are_given_up_as_they_are_answered(stack, exported, each):
    failures = []
    told = (each, failures)
    callers = [threading.Thread(target=late_calls, args=(stack.triton_grpc, k, *told)) for k in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert failures == []
    with closing(TritonPredictor(stack.triton_grpc, MODEL, "")) as predictor:
        assert len(predictor.predict(ROWS, 5.0).target_position) == len(ROWS)

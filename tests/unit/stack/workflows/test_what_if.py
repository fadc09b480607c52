"""Whether a model answers as it did: to the last bit, or within what its release allowed."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from msgspec import structs

from stack.workflows.what_if import compare_answers, differences, features_of, in_force, verdict_of, with_answers
from tests.recorded_desk import recorded
from tests.unit.services.forensics.test_gateway_starts import START
from trading.decision.schema import Reason
from trading.decision.wire import decode_decision
from trading.models.prediction import Prediction
from trading.models.serving import ServingFacts


@pytest.fixture(scope="module")
def decisions():
    logs = recorded("simulate:regimes?seed=3&ticks=1500&symbols=2", 1500, assumed=True)
    found = [decode_decision(p) for log in logs.values() for p in log.published]
    return [d for d in found if d.regime_probabilities][:200]


def answered(decisions, push=0.0):
    regimes, signals, weights = (
        np.array([getattr(d, name) for d in decisions], np.float32)
        for name in ("regime_probabilities", "strategy_signals", "strategy_weights")
    )
    targets = np.array([d.target_position for d in decisions], np.float32).astype(np.float64)
    return Prediction(regimes + np.float32(push), signals, weights, targets, np.ones(len(decisions), bool), "7")


def test_what_was_written_with_nine_digits_is_compared_to_the_last_bit(decisions):
    assert features_of(decisions).dtype == np.float32
    assert compare_answers(decisions, answered(decisions)) == (len(decisions), 0.0)
    exact, largest = compare_answers(decisions, answered(decisions, 1e-6))
    assert exact == 0
    assert largest == pytest.approx(1e-6, rel=0.2)


@pytest.mark.parametrize(
    ("exact", "largest", "parity", "same_serving", "verdict"),
    [
        (True, 0.0, None, False, "exact"), (False, 1e-7, 2e-7, False, "within_parity"),
        (False, 3e-7, 2e-7, False, "beyond_parity"), (False, 1e-9, None, False, "unknown_parity"),
        # The same server, device and batches answer to the last bit, or something is wrong.
        (False, 1e-9, 1.0, True, "differs"), (True, 0.0, None, True, "exact"),
    ],
)  # fmt: skip
def test_the_verdict_says_which(exact, largest, parity, same_serving, verdict):
    assert verdict_of(exact, largest, parity, same_serving=same_serving) == verdict


def test_the_starts_that_count_are_those_of_the_gateways_that_may_have_decided(decisions):
    decided = [
        msgspec.structs.replace(d, model_name="m", model_version="7", decided_at_ns=100) for d in decisions[:3]
    ]
    facts = [ServingFacts(f"triton {n}", {"m": "cpu"}, 8, "ab") for n in range(5)]

    def start(instance, at_ns, version, serving):
        return structs.replace(
            START, instance=instance, at_ns=at_ns, model_name="m", model_version=version, serving=serving
        )

    starts = [
        start("one", 10, "7", facts[0]),  # of a server of long ago
        start("one", 50, "7", facts[1]),
        start("two", 60, "7", facts[1]),
        start("three", 70, "8", facts[2]),  # asks another version
        start("one", 101, "7", facts[3]),  # after the decisions
    ]
    assert in_force(starts, decided) == [facts[1], facts[1]]
    assert in_force(starts[:1], decided) == [facts[0]]
    assert in_force([], decided) == []


def test_what_is_another_than_at_the_start_is_named():
    then = ServingFacts("triton 2.60.0", {"trading_decision": "gpu"}, 8, "ab" * 32)
    assert differences([then, then], then) == []
    now = ServingFacts("triton 2.61.0", {"trading_decision": "cpu"}, 16, "cd" * 32)
    assert differences([then], now) == [
        "answers to the probe: abababababab and cdcdcdcdcdcd",
        "device: gpu and cpu",
        "rows of a batch: 8 and 16",
        "server: triton 2.60.0 and triton 2.61.0",
    ]


def test_an_answer_in_the_place_of_another(decisions):
    late = msgspec.structs.replace(decisions[0], reason=Reason.DEADLINE)
    other = with_answers(late, answered(decisions[:1]), "other")
    assert (other.reason, other.model_name, other.model_version) == (Reason.TARGET, "other", "7")
    wrong = msgspec.structs.replace(answered(decisions[:1]), valid=np.zeros(1, bool))
    refused = with_answers(late, wrong, "other")
    assert (refused.reason, refused.target_position, refused.regime_probabilities) == (
        Reason.PREDICTOR_INVALID,
        None,
        [],
    )

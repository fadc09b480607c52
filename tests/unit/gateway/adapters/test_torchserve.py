"""TorchServe as the gateway asks it, against one that does what a test tells it."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest

from gateway.adapters.torchserve import TorchServePredictor
from tests.torchserve_fake import FakeTorchServe, answers_of
from tests.waiting import eventually
from trading.errors import (
    ContractMismatch,
    InvalidPrediction,
    PredictorDown,
    PredictorTimeout,
    PredictorUnavailable,
    ServiceUnavailable,
)

FUSED = "trading_decision_fused"
ROWS = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)


@pytest.fixture
def server():
    one = FakeTorchServe()
    yield one
    one.close()


@pytest.fixture
def token(tmp_path, server):
    path = tmp_path / "token"
    path.write_text(server.token)
    return path


@pytest.fixture
def predictor(server, token):
    one = TorchServePredictor(server.address, token, FUSED, "")
    yield one
    one.close()


def test_it_pins_the_default_version_and_reads_its_answers(predictor):
    assert predictor.model_version == "1"
    found = predictor.predict(ROWS, 5.0)
    assert found.model_version == "1"
    assert found.valid.all()
    np.testing.assert_array_equal(found.target_position, ROWS[:, 0])
    assert predictor.is_served()
    assert list(predictor.servers().values()) == [""]


def test_a_token_that_was_rotated_is_read_again_within_the_same_call(server, token, predictor):
    predictor.predict(ROWS, 5.0)
    server.token = "another"
    token.write_text("another")
    assert predictor.predict(ROWS, 5.0).valid.all()


def test_a_token_that_is_none_is_told_when_there_is_no_more_time(server, predictor):
    server.token = "another"
    with pytest.raises(PredictorUnavailable, match="token"):
        predictor.predict(ROWS, 0.1)
    assert 1 < server.asked < 30


def test_a_worker_that_dies_is_asked_again_and_only_as_long_as_there_is_time(server, predictor):
    server.deaths = 2
    assert predictor.predict(ROWS, 5.0).valid.all()
    server.deaths, server.asked = 10_000, 0
    with pytest.raises(PredictorDown, match="died"):
        predictor.predict(ROWS, 5.0)
    # One that kills whoever takes it is not handed from worker to worker.
    assert server.asked == 3


def test_no_answer_in_time_is_a_timeout(server, predictor):
    def slow(*given):
        time.sleep(0.3)
        return answers_of(*given)

    server.versions["1"] = (server.describes("1"), slow)
    with pytest.raises(PredictorTimeout):
        predictor.predict(ROWS, 0.05)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"target_position": np.zeros((2, 2))}, "target_position is float32"),
        ({"strategy_weights": np.zeros((1, 7))}, "strategy_weights is float32"),
    ],
)
def test_an_answer_that_is_not_as_the_contract_says_is_no_prediction(server, predictor, changes, says):
    server.versions["1"] = (server.describes("1"), partial(answers_of, **changes))
    with pytest.raises(InvalidPrediction, match=says):
        predictor.predict(ROWS, 5.0)


def test_an_answer_of_another_version_or_model_or_none_at_all_is_no_prediction(server, predictor):
    for answers, says in (
        (lambda s, _, r: answers_of(s, "2", r), "2 answered"),
        (lambda *_: b"rubbish", "no handler of ours"),
        (lambda *_: b"", "no handler of ours"),
    ):
        server.versions["1"] = (server.describes("1"), answers)
        with pytest.raises(InvalidPrediction, match=says):
            predictor.predict(ROWS, 5.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inputs": []}, "served inputs"),
        ({"outputs": []}, "served outputs"),
        ({"feature_version": 99}, "built for feature version 99"),
        ({"feature_version": None}, "built for feature version None"),
        ({"max_batch_size": 8}, "takes batches of 8"),
    ],
)
def test_a_model_that_breaks_the_contract_is_refused_at_the_start(server, token, changes, says):
    server.versions["1"] = (server.describes("1", **changes), answers_of)
    with pytest.raises(ContractMismatch, match=says):
        TorchServePredictor(server.address, token, FUSED, "")


@pytest.mark.parametrize(
    ("model", "version", "says"),
    [
        ("trading_decision", "", "joins no models"),
        ("nosuch", "", "no model of this gateway"),
        (FUSED, "7", "serves no trading_decision_fused version 7: `ultrathink export pipeline"),
        ("trading_decision_other", "", "serves no trading_decision_other"),
    ],
)
def test_what_is_not_served_says_what_loads_it(server, token, model, version, says):
    with pytest.raises(ContractMismatch, match=says):
        TorchServePredictor(server.address, token, model, version)


def test_a_server_or_a_token_that_is_not_there_may_be_there_in_a_moment(server, token, tmp_path):
    with pytest.raises(ServiceUnavailable, match="cannot be read"):
        TorchServePredictor(server.address, tmp_path / "none", FUSED, "")
    with pytest.raises(ServiceUnavailable, match="not reached"):
        TorchServePredictor("127.0.0.1:1", token, FUSED, "")


def test_a_release_and_a_rollback_are_followed_and_told_before_they_are_asked(server, predictor):
    predictor.settle_rows(np.tile(ROWS, (2, 1)))
    told = []
    predictor.follow(lambda version, serving: told.append((version, serving.server, predictor.model_version)))
    server.versions["2"] = (server.describes("2"), answers_of)
    server.default = "2"
    eventually(lambda: predictor.model_version == "2", 10.0)
    server.default = "1"
    del server.versions["2"]
    with pytest.raises(PredictorUnavailable):
        predictor.predict(ROWS, 5.0)
    eventually(lambda: predictor.model_version == "1", 10.0)
    assert told == [("2", "torchserve", "1"), ("1", "torchserve", "2")]


def test_a_version_that_was_named_stays(server, token):
    server.versions["2"] = (server.describes("2"), answers_of)
    server.default = "2"
    one = TorchServePredictor(server.address, token, FUSED, "1")
    try:
        one.settle_rows(ROWS)
        one.follow(lambda *_: pytest.fail("followed"))
        assert one.predict(ROWS, 5.0).model_version == "1"
        assert one.newest() == "2"
    finally:
        one.close()

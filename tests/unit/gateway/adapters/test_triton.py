"""What a lying server answers is found out, row by row where possible."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from gateway.adapters.triton import not_served
from gateway.adapters.triton_answers import tensors, translate
from trading.errors import (
    ContractMismatch,
    InvalidPrediction,
    PredictorDown,
    PredictorTimeout,
    PredictorUnavailable,
    ServiceUnavailable,
)
from trading.models.prediction import to_prediction
from trading.models.signature import STRATEGIES, TRADING_DECISION


def good(n=3):
    return [
        np.full((n, 3), 1 / 3, np.float32),
        np.zeros((n, len(STRATEGIES)), np.float32),
        np.full((n, len(STRATEGIES)), 1 / len(STRATEGIES), np.float32),
        np.zeros((n, 1), np.float32),
    ]


def answer(arrays, names=None, dtype="FP32"):
    response = service_pb2.ModelInferResponse(model_name="trading_decision", model_version="1")
    for name, array in zip(names or [t.name for t in TRADING_DECISION.outputs], arrays, strict=True):
        response.outputs.add(name=name, datatype=dtype, shape=array.shape)
        response.raw_output_contents.append(array.tobytes())
    return response


def test_a_right_answer_is_taken():
    arrays = good()
    found = tensors(answer(arrays), TRADING_DECISION, 3)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, found, strict=True))
    assert to_prediction(found, "7").valid.all()


@pytest.mark.parametrize(
    "response",
    [
        answer(good(2)),
        answer(good(), dtype="FP64"),
        answer(good(), names=["a", "b", "c", "d"]),
        answer(good()[:3], names=[t.name for t in TRADING_DECISION.outputs][:3]),
    ],
    ids=["rows", "dtype", "names", "missing"],
)
def test_another_shape_dtype_or_name_is_refused(response):
    with pytest.raises(InvalidPrediction):
        tensors(response, TRADING_DECISION, 3)


def test_content_shorter_than_its_shape_is_refused():
    response = answer(good())
    response.raw_output_contents[0] = b"1234"
    with pytest.raises(InvalidPrediction, match="4 bytes"):
        tensors(response, TRADING_DECISION, 3)


@pytest.mark.parametrize(
    ("which", "value"), [(0, np.nan), (0, 0.9), (1, 1.5), (2, np.inf), (2, 0.9), (3, np.nan), (3, -1.5)]
)
def test_a_row_outside_its_range_is_invalid_and_the_others_stay(which, value):
    arrays = good()
    arrays[which][1, 0] = value
    assert to_prediction(arrays, "7").valid.tolist() == [True, False, True]


def test_negative_probabilities_and_weights_are_no_mixture():
    arrays = good()
    arrays[0][0] = [3.0, -1.0, -1.0]
    arrays[2][2] = [5.0, -4.0, *[0.0] * (len(STRATEGIES) - 2)]
    assert to_prediction(arrays, "7").valid.tolist() == [False, True, False]


class Failure(grpc.RpcError):
    def __init__(self, code):
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return "why"


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_grpc_status_becomes_an_error_of_ours(code):
    late = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
    kind = PredictorDown if code is grpc.StatusCode.UNAVAILABLE else PredictorUnavailable
    assert type(translate(Failure(code))) is (PredictorTimeout if code in late else kind)


def indexed(*told):
    return [
        service_pb2.RepositoryIndexResponse.ModelIndex(name=name, version=version, state=state, reason=reason)
        for name, version, state, reason in told
    ]


@pytest.mark.parametrize(
    ("index", "version", "kind", "says"),
    [
        ([("m", "", "", "")], "", ServiceUnavailable, "has not loaded m yet"),
        ([("m", "1", "LOADING", "")], "", ServiceUnavailable, "has not loaded m yet"),
        (
            [("m", "1", "UNAVAILABLE", "unloaded"), ("m", "2", "LOADING", "")],
            "",
            ServiceUnavailable,
            "not loaded m",
        ),
        ([("m", "", "", "")], "1", ServiceUnavailable, "has not loaded version 1 of m yet"),
        ([("m", "1", "LOADING", "")], "1", ServiceUnavailable, "has not loaded version 1 of m yet"),
        ([("m", "1", "READY", "")], "1", ServiceUnavailable, "has loaded version 1 of m, which does not"),
        ([], "", ContractMismatch, "serves no m: `ultrathink export pipeline"),
        ([("other", "1", "LOADING", "")], "", ContractMismatch, "serves no m: `ultrathink"),
        ([("m", "1", "UNAVAILABLE", "unloaded")], "", ContractMismatch, r"serves no m \(unloaded\)"),
        ([("m", "1", "READY", "")], "9", ContractMismatch, "serves no version 9 of m"),
        ([("m", "1", "UNAVAILABLE", "no such op"), ("m", "2", "LOADING", "")], "1", ContractMismatch, "no such op"),
    ],
)
def test_a_model_that_is_still_loaded_is_waited_for_and_one_that_is_not_there_is_not(index, version, kind, says):
    with pytest.raises(kind, match=says):
        raise not_served("host:1", "m", indexed(*index), version)

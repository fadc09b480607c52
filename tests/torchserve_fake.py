"""A TorchServe of gRPC alone, which answers as a test tells it: refuses tokens, loses workers, describes anything."""

from __future__ import annotations

import json
import struct
from concurrent.futures import ThreadPoolExecutor

import grpc
import msgspec
import numpy as np

from connectors.torchserve.framing import LENGTH, NUMPY
from connectors.torchserve.wire import PREDICTIONS, PredictionResponse, PredictionsRequest
from trading.models.signature import contract

FUSED = msgspec.structs.replace(contract("trading_decision_fused"), backend="pytorch")


class FakeTorchServe:
    """Serves versions of one model; `default` answers who names none.

    Attributes:
        token: the only one that is taken.
        versions: number -> what a version describes itself by, and answers to rows, float32 [n, 32], with.
        deaths: so many calls find their worker dying.
        asked: how often it was asked.
    """

    def __init__(self, signature=FUSED):
        self.token, self.default, self.deaths, self.asked = "secret", "1", 0, 0
        self.signature = signature
        self.versions = {"1": (self.describes("1"), answers_of)}
        self._server = grpc.server(ThreadPoolExecutor(4))
        handler = grpc.unary_unary_rpc_method_handler(
            self._answer, request_deserializer=PredictionsRequest.FromString,
            response_serializer=PredictionResponse.SerializeToString,
        )  # fmt: skip
        service, method = PREDICTIONS.strip("/").split("/")
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def describes(self, version, **changes):
        told = json.loads(msgspec.json.encode(self.signature))
        return {**told, "version": version, "device": "cpu", **changes}

    def close(self):
        self._server.stop(None)

    def _answer(self, request, context):
        self.asked += 1
        if ("authorization", f"Bearer {self.token}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "Token Authorization failed. Token either incorrect")
        if self.deaths:
            self.deaths -= 1
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Worker died.\n")
        if request.model_name != self.signature.name:
            context.abort(grpc.StatusCode.INTERNAL, f"Model not found: {request.model_name}")
        version = request.model_version or self.default
        if version not in self.versions:
            context.abort(grpc.StatusCode.INTERNAL, f"Model version: {version} does not exist for model: x")
        described, answers = self.versions[version]
        if "describe" in request.input:
            return PredictionResponse(prediction=json.dumps(described).encode())
        (one,) = json.loads(request.input["header"])["inputs"]
        rows = np.frombuffer(request.input["data"], NUMPY[one["datatype"]]).reshape(one["shape"])
        return PredictionResponse(prediction=answers(self.signature, version, rows))


def answers_of(signature, version, rows, **changes):
    """What a worker answers to rows: a usable decision of each."""
    n = len(rows)
    outputs = {
        "regime_probabilities": np.full((n, 3), 1 / 3), "strategy_signals": np.zeros((n, 7)),
        "strategy_weights": np.full((n, 7), 1 / 7), "target_position": rows[:, :1].clip(-1, 1), **changes,
    }  # fmt: skip
    told = {"model_name": signature.name, "model_version": version, "outputs": [
        {"name": name, "datatype": "FP32", "shape": list(a.shape)} for name, a in outputs.items()
    ]}  # fmt: skip
    header = json.dumps(told).encode()
    assert LENGTH.size == struct.calcsize("<I")
    return b"".join([LENGTH.pack(len(header)), header, *(a.astype("<f4").tobytes() for a in outputs.values())])

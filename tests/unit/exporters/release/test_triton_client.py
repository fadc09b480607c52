"""A server that is slow, and one that does not load on request: hand-written, at the real seam."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from exporters.errors import ExportError
from exporters.release.recalled import RecalledVersion
from exporters.release.triton_client import TritonServer, gone
from trading.errors import ServiceUnavailable
from trading.models.signature import ModelSignature, TensorSpec

STEP = ModelSignature("m", "onnxruntime", (TensorSpec("x", (4,)),), (TensorSpec("y", (1,)),), (), None)


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Live; a load takes as long as it was told, or is refused."""

    def __init__(self, load_s=0.0, refusal=""):
        self.load_s, self.refusal = load_s, refusal

    def ServerLive(self, request, context):  # noqa: N802
        return messages.ServerLiveResponse(live=True)

    def RepositoryModelLoad(self, request, context):  # noqa: N802
        time.sleep(self.load_s)
        if self.refusal:
            context.abort(grpc.StatusCode.UNAVAILABLE, self.refusal)
        return messages.RepositoryModelLoadResponse()

    def ModelInfer(self, request, context):  # noqa: N802
        time.sleep(self.load_s)
        return messages.ModelInferResponse()


@pytest.fixture
def serve():
    servers = []

    def start(triton):
        server = grpc.server(ThreadPoolExecutor(4))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(0).wait()


def test_a_slow_server_is_a_sentence(serve):
    triton = TritonServer(serve(Triton(load_s=2.0)), load_timeout_s=0.2)
    with pytest.raises(ExportError, match=r"does not load m: no answer in 0.2 s"):
        triton.load("m")
    triton.close()


def test_an_answer_is_waited_for_as_long_as_was_asked(serve):
    asked = []

    class Slow(TritonServer):
        def run(self, signature, version, timeout_s=None):
            asked.append(timeout_s)
            return super().run(signature, version, timeout_s)

    triton = Slow(serve(Triton(load_s=2.0)))
    found = RecalledVersion(triton, STEP)
    found.add(STEP, 1, "cpu")
    with pytest.raises(ExportError, match=r"does not run m: no answer in 0.\d+ s"):
        found.run([np.zeros((1, 4), np.float32)], 0.2)
    assert 0.0 < asked[0] <= 0.2
    triton.close()


def test_a_server_that_is_gone_for_a_while_has_no_more_time_for_that(serve):
    given = []

    class Gone:
        def infer(self, *_, client_timeout):
            given.append(client_timeout)
            raise InferenceServerException("failed to connect to all addresses", "StatusCode.UNAVAILABLE")

        def close(self):
            """Nothing."""

    triton = TritonServer(serve(Triton()))
    triton.close()
    triton._client = Gone()
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        triton.run(STEP, 1, 0.5)([np.zeros((1, 4), np.float32)])
    assert len(given) > 1
    assert given == sorted(given, reverse=True)
    assert given[-1] <= 0.35


def test_what_a_step_took_the_next_one_has_not():
    asked = []

    class Steps:
        def run(self, signature, version, timeout_s):
            asked.append(timeout_s)
            time.sleep(0.05)
            return lambda arrays: [np.zeros((1, 1), np.float32)]

    found = RecalledVersion(Steps(), STEP)
    found.add(STEP, 1, "cpu")
    found.add(STEP, 1, "cpu")
    found.run([np.zeros((1, 4), np.float32)], 10.0)
    first, second = asked
    assert second <= first - 0.05


def test_a_server_without_explicit_control_is_told_how_to_start(serve):
    said = "explicit model load / unload is not allowed if polling is enabled"
    triton = TritonServer(serve(Triton(refusal=said)))
    with pytest.raises(ExportError, match="--model-control-mode=explicit"):
        triton.load("m")
    triton.close()


def test_a_model_that_is_not_ready_is_not_a_server_that_is_gone():
    class Failure:
        def __init__(self, status, message):
            self.status, self.message = lambda: status, lambda: message

    assert gone(Failure("StatusCode.UNAVAILABLE", "failed to connect to all addresses"))
    assert not gone(Failure("StatusCode.UNAVAILABLE", "Request for unknown model: 'm' is not found"))
    assert not gone(Failure("StatusCode.DEADLINE_EXCEEDED", "socket"))

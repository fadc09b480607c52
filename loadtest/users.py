"""Locust users of Triton's gRPC; gevent-safe, with real feature rows."""

from __future__ import annotations

import time
from itertools import islice

import grpc.experimental.gevent
import numpy as np
import tritonclient.grpc as grpcclient
from gevent import GreenletExit
from locust import User, constant_pacing, task
from tritonclient.utils import InferenceServerException

from gateway.domain.features import FeatureEngine
from gateway.domain.schemas import Float32Array, TickBatch
from gateway.domain.signature import FEATURES_TENSOR, TRADING_DECISION
from gateway.history import open_source

#: gRPC's C core would block gevent's loop otherwise.
grpc.experimental.gevent.init_gevent()

ROWS = 1024
TIMEOUT_S = 5.0


def feature_rows(source: str = f"simulate:regimes?ticks={ROWS}") -> Float32Array:
    """float32 [ROWS, 32] of the kernel, never zeros."""
    ticks = [r.tick for r in islice(open_source(source).records(), ROWS)]
    return FeatureEngine().update(TickBatch.from_ticks(ticks)).values


class TritonGrpcUser(User):
    """One inference of a batch every 10 ms; --host is Triton's gRPC address."""

    wait_time = constant_pacing(0.01)
    batch = 8

    def on_start(self) -> None:
        """Connect; a server that does not answer stops the user with a sentence."""
        self.client = grpcclient.InferenceServerClient(self.host or "127.0.0.1:8001")
        self.rows = feature_rows()
        self.random = np.random.default_rng(0)
        try:
            if not self.client.is_model_ready(TRADING_DECISION.name, client_timeout=TIMEOUT_S):
                raise InferenceServerException(f"{TRADING_DECISION.name} is not loaded")
        except InferenceServerException as error:
            self.fire("connect", 0.0, error)
            # StopUser would say the same, with a traceback printed above it.
            raise GreenletExit from error

    def on_stop(self) -> None:
        """Close the channel: an open one keeps the process from ending under gevent."""
        self.client.close()

    @task
    def infer(self) -> None:
        """A batch of real rows."""
        at = int(self.random.integers(0, ROWS - self.batch))
        tensor = grpcclient.InferInput(FEATURES_TENSOR.name, [self.batch, *FEATURES_TENSOR.dims], "FP32")
        tensor.set_data_from_numpy(self.rows[at : at + self.batch])
        started = time.perf_counter()
        error: Exception | None = None
        try:
            result = self.client.infer(TRADING_DECISION.name, [tensor], client_timeout=TIMEOUT_S)
            target = result.as_numpy("target_position")
            if target is None or not np.isfinite(target).all():
                error = ValueError("target_position is not finite")
        except InferenceServerException as failure:
            error = failure
        self.fire("infer", time.perf_counter() - started, error)

    def fire(self, name: str, seconds: float, error: Exception | None) -> None:
        """Report to Locust, in milliseconds."""
        self.environment.events.request.fire(
            request_type="gRPC",
            name=f"{TRADING_DECISION.name} {name} batch {self.batch}",
            response_time=seconds * 1e3,
            response_length=0,
            exception=error,
        )

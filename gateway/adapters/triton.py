"""Triton over gRPC: check the served contract, pin a version, run one call a batch."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from connectors.triton.errors import InferenceServerException, Meaning, did_not_answer, meaning
from connectors.triton.grpc import (
    RECONNECT,
    InferenceServerClient,
    RpcError,
    model_config_pb2,
    service_pb2,
)
from connectors.triton.inferring import Infer
from gateway.adapters.batch_dependence import batch_test
from gateway.adapters.following import FollowingPredictor
from gateway.adapters.triton_answers import PendingAnswer, tensors, translate
from gateway.workers import Worker
from trading.arrays import Float32Array
from trading.errors import (
    ContractMismatch,
    InvalidPrediction,
    PredictorUnavailable,
    ServiceUnavailable,
)
from trading.models.prediction import Prediction, to_prediction
from trading.models.serving import ServingFacts, digest_of
from trading.models.signature import contract

CONTROL_TIMEOUT_S = 5.0
#: How Triton's index calls the state of a version: nobody asked for it yet, it is being loaded; it is loaded.
NOT_YET, READY = {"", "LOADING"}, "READY"


class TritonPredictor(FollowingPredictor):
    """Implements Predictor for the ensemble."""

    failures = (*FollowingPredictor.failures, InferenceServerException, RpcError)

    def __init__(self, address: str, model_name: str, model_version: str) -> None:
        """Connect and check.

        Args:
            address: host:port of Triton's gRPC.
            model_name: a model of the trading_decision contract.
            model_version: the version to pin; "" takes the newest that is ready, and a newer one when
                that is unloaded.

        Raises:
            ServiceUnavailable: the server does not answer, or has not loaded the model yet.
            ContractMismatch: the model is absent, or differs from its signature; says which and how.
        """
        super().__init__(model_version)
        self.model_name = model_name
        self._address = address
        try:
            self._signature = contract(model_name)
        except KeyError:
            raise ContractMismatch(
                f"{model_name!r} is no model of this gateway: name trading_decision or a variant"
            ) from None
        self._probe = np.zeros((1, *self._signature.inputs[0].dims), np.float32)
        self._client = InferenceServerClient(address, channel_args=RECONNECT)
        try:
            self.model_version = model_version or self.newest_version()
            self.check_version(self.model_version)
        except InferenceServerException as error:
            raise self._translated(error) from error
        self._infer = Infer(address)

    def predict(self, features: Float32Array, timeout_s: float) -> Prediction:
        """One call; see Predictor. One that is late goes on, and its answer is nobody's."""
        version, padded = self.padded(features)
        try:
            answer = self._infer(self._request(padded, version), max(timeout_s, 0.001))
        except RpcError as error:
            failure = translate(error)
            if isinstance(failure, PredictorUnavailable):
                self.look_soon()
            raise failure from error
        return self._read(answer, version, len(features), len(padded))

    def begin(self, features: Float32Array) -> PendingAnswer:
        """Begin a call, and do not wait; see ChallengerModel."""
        version, padded = self.padded(features)
        try:
            call = self._infer.begin(self._request(padded, version))
        except RpcError as error:
            raise translate(error) from error
        return PendingAnswer(
            self._infer, call, partial(self._read, version=version, rows=len(features), padded=len(padded))
        )

    def _read(self, answer: Any, version: str, rows: int, padded: int) -> Prediction:
        """An answer, checked; of the rows that were asked. Raises InvalidPrediction."""
        if answer.model_version != version:
            raise InvalidPrediction(f"version {answer.model_version} answered, {version} was asked")
        found = tensors(answer, self._signature, padded)
        return to_prediction([t[:rows] for t in found], version)

    def settle_rows(self, probe: Float32Array) -> ServingFacts:
        """Find the batch sizes with which a row's answer does not depend on its company.

        Batches are padded to a multiple of `rows_multiple` from here on. `probe` is float32 [n, 32].

        Raises:
            ServiceUnavailable: the server does not answer.
        """
        self._probe = probe
        try:
            self.serving = self.serving_of(self.model_version)
        except InferenceServerException as error:
            raise self._translated(error) from error
        except RpcError as error:
            raise ServiceUnavailable(f"Triton at {self._address}: {translate(error)}") from error
        self.rows_multiple = self.serving.rows_multiple
        return self.serving

    def serving_of(self, version: str) -> ServingFacts:
        """See FollowingPredictor."""
        server = self._client.get_server_metadata(client_timeout=CONTROL_TIMEOUT_S)
        found = batch_test(lambda rows: self._answer(rows, version), self._probe, self._signature.max_batch_size)
        answers = digest_of(found.answers)
        return ServingFacts(f"{server.name} {server.version}", self._devices(version), found.rows_multiple, answers)

    def _devices(self, version: str) -> dict[str, str]:
        """Of the model, or of an ensemble's steps."""
        config = self._client.get_model_config(self.model_name, version, client_timeout=CONTROL_TIMEOUT_S).config
        steps = [(one.model_name, str(one.model_version)) for one in config.ensemble_scheduling.step]
        configs = {
            name: self._client.get_model_config(
                name, number if int(number) > 0 else "", client_timeout=CONTROL_TIMEOUT_S
            ).config
            for name, number in steps
        } or {self.model_name: config}
        gpu = model_config_pb2.ModelInstanceGroup.KIND_GPU
        return {n: "gpu" if any(g.kind == gpu for g in c.instance_group) else "cpu" for n, c in configs.items()}

    def _answer(self, rows: Float32Array, version: str) -> list[bytes]:
        answer = self._infer(self._request(rows, version), CONTROL_TIMEOUT_S)
        return [t.tobytes() for t in tensors(answer, self._signature, len(rows))]

    def _request(self, features: Float32Array, version: str) -> Any:
        return service_pb2.ModelInferRequest(
            model_name=self.model_name,
            model_version=version,
            inputs=[
                service_pb2.ModelInferRequest.InferInputTensor(
                    name="features", datatype="FP32", shape=features.shape
                )
            ],
            # No outputs are named: all come.
            raw_input_contents=[features.tobytes()],
        )

    def newest(self) -> str:
        """The newest version that is ready. Raises ServiceUnavailable, ContractMismatch."""
        try:
            return self.newest_version()
        except InferenceServerException as error:
            raise self._translated(error) from error

    def is_served(self) -> bool:
        """Whether its version answers. Raises ServiceUnavailable."""
        try:
            return self._is_ready(self.model_version)
        except InferenceServerException as error:
            raise ServiceUnavailable(f"Triton at {self._address} does not answer: {error.message()}") from error

    def servers(self) -> dict[str, str]:
        """Address -> why it is not asked: it always is."""
        return {self._address: ""}

    @property
    def workers(self) -> list[Worker]:
        """None that it cannot do without."""
        return []

    def close(self) -> None:
        """Close the channels."""
        self.stop_following()
        self._infer.close()
        self._client.close()

    def newest_version(self) -> str:
        """The highest version that is ready."""
        index = self._client.get_model_repository_index(client_timeout=CONTROL_TIMEOUT_S)
        ready = [int(m.version) for m in index.models if m.name == self.model_name and m.state == "READY"]
        if not ready:
            raise not_served(self._address, self.model_name, index.models)
        return str(max(ready))

    def _is_ready(self, version: str) -> bool:
        try:
            return bool(self._client.is_model_ready(self.model_name, version, client_timeout=CONTROL_TIMEOUT_S))
        except InferenceServerException as error:
            if meaning(error) in {Meaning.ABSENT, Meaning.REFUSED}:
                return False
            raise

    def check_version(self, version: str) -> None:
        """Raise ContractMismatch unless tensors, dims, dtypes, batch size and feature version agree.

        Raises ServiceUnavailable while it is being loaded.
        """
        name = self.model_name
        if not self._is_ready(version):
            index = self._client.get_model_repository_index(client_timeout=CONTROL_TIMEOUT_S)
            raise not_served(self._address, name, index.models, version)
        found = self._client.get_model_metadata(name, version, client_timeout=CONTROL_TIMEOUT_S)
        for side in ("inputs", "outputs"):
            wanted = {t.name: (t.dtype, (-1, *t.dims)) for t in getattr(self._signature, side)}
            served = {t.name: (t.datatype, tuple(t.shape)) for t in getattr(found, side)}
            if wanted != served:
                raise ContractMismatch(f"{name} version {version}: served {side} {served}, expected {wanted}")
        config = self._client.get_model_config(name, version, client_timeout=CONTROL_TIMEOUT_S).config
        feature_version = config.parameters["feature_version"].string_value or "unstated"
        if feature_version != str(self._signature.feature_version):
            raise ContractMismatch(
                f"{name} version {version} was built for feature version {feature_version}; this gateway "
                f"computes version {self._signature.feature_version}: export the model again"
            )
        if config.max_batch_size < self._signature.max_batch_size:
            raise ContractMismatch(
                f"{name} version {version} takes batches of {config.max_batch_size}; the gateway sends up "
                f"to {self._signature.max_batch_size}"
            )

    def _translated(self, error: InferenceServerException) -> Exception:
        if did_not_answer(error):
            return ServiceUnavailable(f"Triton at {self._address} does not answer: {error.message()}")
        return ContractMismatch(f"{self.model_name} version {self.model_version or '?'}: {error.message()}")


def not_served(address: str, model: str, index: Iterable[Any], version: str = "") -> Exception:
    """Why a model, or a version of it, does not answer, by the server's index of its repository.

    A Triton that has just started knows its models and loads them one after the other: that passes, as its
    start does. What it does not know, was unloaded, or could not be loaded does not.

    Returns:
        ServiceUnavailable where it may be there in a moment, ContractMismatch otherwise.
    """
    known = [m for m in index if m.name == model and (not version or m.version in {"", version})]
    wanted = f"version {version} of {model}" if version else model
    way = f"`ultrathink export release {model} {version}`" if version else "`ultrathink export pipeline --release`"
    if any(m.state == READY for m in known):
        return ServiceUnavailable(f"Triton at {address} has loaded {wanted}, which does not answer")
    if any(m.state in NOT_YET for m in known):
        return ServiceUnavailable(f"Triton at {address} has not loaded {wanted} yet: where nobody does, {way} does")
    why = "; ".join(m.reason for m in known if m.reason)
    return ContractMismatch(f"Triton at {address} serves no {wanted}{f' ({why})' if why else ''}: {way} loads it")

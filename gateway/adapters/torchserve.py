"""TorchServe over gRPC: check the served contract, pin a version, run one call a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from connectors.torchserve.errors import Meaning, RpcError, meaning
from connectors.torchserve.framing import (
    DESCRIBE,
    AnswerRefused,
    Array,
    Described,
    FramedAnswer,
    answer,
    description,
    question,
)
from connectors.torchserve.inferring import TorchServeInfer
from connectors.torchserve.tokens import of_file
from gateway.adapters.batch_dependence import batch_test
from gateway.adapters.following import FollowingPredictor
from gateway.workers import Worker
from trading.arrays import Float32Array
from trading.errors import (
    BadRecord,
    ContractMismatch,
    InvalidPrediction,
    PredictionError,
    PredictorDown,
    PredictorTimeout,
    PredictorUnavailable,
    ServiceUnavailable,
)
from trading.models.prediction import Prediction, to_prediction
from trading.models.serving import ServingFacts, digest_of
from trading.models.signature import ModelSignature, contract

CONTROL_TIMEOUT_S = 5.0
#: What TorchServe 0.12 is called in what a gateway says of its start: inference does not tell its version.
SERVER = "torchserve"


class TorchServePredictor(FollowingPredictor):
    """Implements Predictor for a pipeline that is one model."""

    failures = (*FollowingPredictor.failures, PredictionError)

    def __init__(self, address: str, token_file: Path, model_name: str, model_version: str) -> None:
        """Connect and check.

        Args:
            address: host:port of its gRPC.
            token_file: holds the token for inference; read again when it is refused.
            model_name: a variant of the trading_decision contract.
            model_version: the version to pin; "" takes the one that the server answers with by default, and follows
                it.

        Raises:
            ServiceUnavailable: the server does not answer, or there is no token.
            ContractMismatch: the model is absent, or differs from its signature; says which and how.
        """
        super().__init__(model_version)
        self.model_name, self._address = model_name, address
        self._signature = served_contract(model_name)
        self._probe = np.zeros((1, *self._signature.inputs[0].dims), np.float32)
        self._infer = TorchServeInfer(address, of_file(token_file))
        try:
            self.model_version = model_version or self.newest_version()
            self.check_version(self.model_version)
        except BaseException:
            self._infer.close()
            raise

    def predict(self, features: Float32Array, timeout_s: float) -> Prediction:
        """One call; see Predictor."""
        version, padded = self.padded(features)
        try:
            found = self._ask(padded, version, max(timeout_s, 0.001))
        except PredictorUnavailable:
            self.look_soon()
            raise
        return to_prediction([one[: len(features)] for one in found], version)

    def settle_rows(self, probe: Float32Array) -> ServingFacts:
        """Find the batch sizes with which a row's answer does not depend on its company; see TritonPredictor.

        Raises:
            ServiceUnavailable: the server does not answer.
        """
        self._probe = probe
        try:
            self.serving = self.serving_of(self.model_version)
        except PredictionError as error:
            raise ServiceUnavailable(f"TorchServe at {self._address}: {error}") from error
        self.rows_multiple = self.serving.rows_multiple
        return self.serving

    def serving_of(self, version: str) -> ServingFacts:
        """See FollowingPredictor."""
        device = "gpu" if self._describe(version).device == "cuda" else "cpu"
        found = batch_test(
            lambda rows: [one.tobytes() for one in self._ask(rows, version, CONTROL_TIMEOUT_S)],
            self._probe,
            self._signature.max_batch_size,
        )
        return ServingFacts(SERVER, {self.model_name: device}, found.rows_multiple, digest_of(found.answers))

    def newest_version(self) -> str:
        """The version that answers who names none: what is released, also after a rollback."""
        return self._describe("").version

    def newest(self) -> str:
        """See `newest_version`."""
        return self.newest_version()

    def check_version(self, version: str) -> None:
        """Raise ContractMismatch unless tensors, batch size and feature version agree."""
        found, wanted = self._describe(version), self._signature
        for side in ("inputs", "outputs"):
            served, ours = getattr(found, side), getattr(wanted, side)
            if served != ours:
                raise ContractMismatch(
                    f"{self.model_name} version {version}: served {side} {served}, expected {ours}"
                )
        if found.feature_version != wanted.feature_version:
            raise ContractMismatch(
                f"{self.model_name} version {version} was built for feature version {found.feature_version}; this "
                f"gateway computes version {wanted.feature_version}: export the model again"
            )
        if found.max_batch_size < wanted.max_batch_size:
            raise ContractMismatch(
                f"{self.model_name} version {version} takes batches of {found.max_batch_size}; the gateway sends "
                f"up to {wanted.max_batch_size}"
            )

    def is_served(self) -> bool:
        """Whether its version answers. Raises ServiceUnavailable."""
        try:
            self._describe(self.model_version)
        except ContractMismatch:
            return False
        return True

    def servers(self) -> dict[str, str]:
        """Address -> why it is not asked: it always is."""
        return {self._address: ""}

    @property
    def workers(self) -> Sequence[Worker]:
        """None that it cannot do without."""
        return []

    def close(self) -> None:
        """Close the channel."""
        self.stop_following()
        self._infer.close()

    def _describe(self, version: str) -> Described:
        """What a version says of itself. Raises ServiceUnavailable, ContractMismatch where it is not served."""
        try:
            return description(self._infer(self.model_name, version, DESCRIBE, CONTROL_TIMEOUT_S))
        except BadRecord as error:
            raise ContractMismatch(f"{self.model_name} at {self._address}: {error}") from error
        except RpcError as error:
            said = f"{self.model_name}{f' version {version}' if version else ''}"
            if meaning(error) is Meaning.ABSENT:
                raise ContractMismatch(
                    f"TorchServe at {self._address} serves no {said}: `ultrathink export pipeline --server "
                    "torchserve --release` loads it, as trading_decision_fused"
                ) from error
            raise ServiceUnavailable(f"TorchServe at {self._address}: {said}: {translated(error)}") from error

    def _ask(self, features: Float32Array, version: str, timeout_s: float) -> list[Float32Array]:
        """The outputs for rows, in the signature's order. Raises PredictionError."""
        asked = question(self._signature.inputs, [features])
        try:
            content = self._infer(self.model_name, version, asked, timeout_s)
        except RpcError as error:
            raise translated(error) from error
        except ServiceUnavailable as error:
            # There is no token to ask with.
            raise PredictorUnavailable(str(error)) from error
        try:
            found = answer(content)
        except AnswerRefused as error:
            raise PredictorUnavailable(str(error)) from error
        except BadRecord as error:
            raise InvalidPrediction(str(error)) from error
        return checked(found, self._signature, version, len(features))


def served_contract(model_name: str) -> ModelSignature:
    """The contract of a model that TorchServe can serve. Raises ContractMismatch."""
    try:
        found = contract(model_name)
    except KeyError:
        raise ContractMismatch(f"{model_name!r} is no model of this gateway: name trading_decision_fused") from None
    if found.backend == "ensemble":
        raise ContractMismatch(
            f"TorchServe joins no models, and {model_name} is several: name {model_name}_fused "
            "(ULTRATHINK_GATEWAY_MODEL_NAME), which is the same as one"
        )
    return found


def checked(found: FramedAnswer, signature: ModelSignature, version: str, rows: int) -> list[Array]:
    """The outputs in the signature's order. Raises InvalidPrediction for another model, version, dtype or shape."""
    if (found.model_name, found.model_version) != (signature.name, version):
        raise InvalidPrediction(
            f"{found.model_name} {found.model_version} answered, {signature.name} {version} was asked"
        )
    outputs = []
    for spec in signature.outputs:
        one = found.outputs.get(spec.name)
        if one is None:
            raise InvalidPrediction(f"{spec.name} is absent")
        if one.dtype != np.float32 or one.shape != (rows, *spec.dims):
            raise InvalidPrediction(
                f"{spec.name} is {one.dtype} {list(one.shape)}, expected float32 {[rows, *spec.dims]}"
            )
        outputs.append(one)
    return outputs


def translated(error: RpcError) -> PredictionError:
    """TorchServe's status to our errors."""
    found, said = meaning(error), " ".join(str(error.details() or "").split())[:300]
    if found is Meaning.TIMED_OUT:
        return PredictorTimeout(said)
    kind = PredictorDown if found in {Meaning.DOWN, Meaning.DIED} else PredictorUnavailable
    return kind(f"{found.value}: {said}")

"""A recorded version asked again: where it is served, else beside what is served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from exporters.errors import ExportError
from exporters.profiles import DEFAULT_GPU, Gpu, find_gpu
from exporters.release.recalled import Holding, RecalledVersion, recalled
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from gateway.adapters.batch_dependence import batch_test
from gateway.adapters.triton import TritonPredictor
from gateway.warm_up import probe_rows, probe_ticks
from stack.processes.settings import experiments_settings, gateway_settings
from stack.servers.settings import load
from trading.arrays import Float32Array
from trading.errors import (
    ConfigurationError,
    ContractMismatch,
    PredictionError,
    PredictorUnavailable,
    ServiceUnavailable,
)
from trading.models.prediction import Prediction, to_prediction
from trading.models.serving import ServingFacts, digest_of
from trading.models.signature import TRADING_DECISION, ModelSignature, contract

#: Rows of a call; more than the gateway's batches under load, and few enough for any model's memory.
ROWS = 256
ASK_S = 10.0
MOST_DIGITS = 10


class ModelPlace(Struct, frozen=True):
    """Triton's gRPC address, the repository that it serves from, and the desk's GPU."""

    address: str
    repository: ModelRepository
    gpu: Gpu


class Answered(Struct, frozen=True):
    """What a version answers, on what that depends, and whether it was loaded for it."""

    prediction: Prediction
    serving: ServingFacts
    recalled: bool


def place_of_models(folder: Path | None = None) -> ModelPlace:
    """As the settings say, or with another folder of the repository."""
    repository = ModelRepository(folder or load().model_repository)
    return ModelPlace(gateway_settings().tritons[0], repository, find_gpu(DEFAULT_GPU))


def place_of_experiments() -> tuple[ModelPlace, str]:
    """Where experiments' models lie, and the address of MLflow, which knows where they come from."""
    settings = experiments_settings()
    return place_of_models(settings.repository), settings.mlflow_uri or load().mlflow_uri


class AskedModel:
    """A version that can be asked, as long as it is held open.

    Attributes:
        serving: what its answers depend on.
        recalled: whether it was loaded for this, since it is not served.
    """

    def __init__(self, model: TritonPredictor | RecalledModel, serving: ServingFacts, *, recalled: bool) -> None:
        self._model, self.serving, self.recalled = model, serving, recalled

    def predict(self, features: Float32Array, timeout_s: float) -> Prediction:
        """What it says of float32 [n, features]. Raises PredictionError."""
        return self._model.predict(features, timeout_s)


def ask(place: ModelPlace, model: str, version: str, features: Float32Array) -> Answered:
    """What a version answers to rows, float32 [n, features].

    Raises:
        ConfigurationError: it is no model of the gateway, or neither served nor to be loaded.
        ServiceUnavailable: Triton does not answer.
    """
    with opened_model(place, model, version) as one:
        try:
            parts = [one.predict(rows, ASK_S) for rows in chunks(features)]
        except PredictionError as error:
            raise ServiceUnavailable(f"{model} version {version} does not answer: {error}") from error
        return Answered(joined(parts, version), one.serving, one.recalled)


@contextmanager
def opened_model(
    place: ModelPlace, model: str, version: str, holding: Holding | None = None
) -> Iterator[AskedModel]:
    """A version as a gateway asks it; one that is not served is loaded beside what is, and unloaded at the end.

    `holding` says what that is held for, and how; None: for a moment. Raises as `ask`.
    """
    signature = signature_of(model, version)
    with ExitStack() as opened:
        triton = opened.enter_context(closing(TritonServer(place.address)))
        if int(version) in triton.ready(model):
            try:
                predictor = opened.enter_context(closing(TritonPredictor(place.address, model, version)))
            except ContractMismatch as error:
                raise ConfigurationError(f"{error}: it cannot be asked as the gateway asks") from error
            # As it does at its start: batches of a size with which no answer depends on the company.
            yield AskedModel(predictor, predictor.settle_rows(probe_rows(probe_ticks())), recalled=False)
            return
        try:
            asked = recalled(place.repository, triton, place.gpu, model, int(version), holding)
            found = opened.enter_context(asked)
            one = RecalledModel(triton, found, signature, version)
        except ExportError as error:
            raise ConfigurationError(
                f"version {version} of {model} is not served, and cannot be loaded beside what is: {error}"
            ) from error
        yield AskedModel(one, one.serving, recalled=True)


def signature_of(model: str, version: str) -> ModelSignature:
    """What a version of a gateway's model must take and give. Raises ConfigurationError for what is none."""
    try:
        signature = contract(model)
    except KeyError:
        signature = None
    if signature is None or signature.outputs != TRADING_DECISION.outputs:
        raise ConfigurationError(f"{model!r} is no model of the gateway: name trading_decision or a variant")
    if not (version.isascii() and version.isdigit() and len(version) < MOST_DIGITS):
        raise ConfigurationError(f"{version!r} is no version of a model: give its number")
    return signature


class RecalledModel:
    """A version that is loaded beside what serves, asked as a gateway asks.

    Attributes:
        serving: what its answers depend on.
    """

    def __init__(
        self, triton: TritonServer, found: RecalledVersion, signature: ModelSignature, version: str
    ) -> None:
        """Find the batches with which no answer depends on its company.

        Raises:
            ExportError: it does not take or give what the gateway's models do.
            ServiceUnavailable: Triton does not answer.
        """
        its = found.contract
        if (its.inputs, its.outputs, its.feature_version) != (
            signature.inputs, signature.outputs, signature.feature_version,
        ):  # fmt: skip
            names = [[t.name for t in side] for side in (its.inputs, its.outputs)]
            raise ExportError(
                f"it was made for feature version {its.feature_version} and tensors {names[0]} to {names[1]}; this "
                f"version asks for feature version {signature.feature_version}"
            )
        self._found, self._version = found, version
        tried = batch_test(
            lambda rows: [array.tobytes() for array in self._run(rows)],
            probe_rows(probe_ticks()),
            signature.max_batch_size,
        )
        self.serving = ServingFacts(triton.about(), found.devices, tried.rows_multiple, digest_of(tried.answers))

    def predict(self, features: Float32Array, timeout_s: float) -> Prediction:
        """What it says of float32 [n, features]. Raises PredictorUnavailable."""
        lacking = -len(features) % self.serving.rows_multiple
        padded = np.concatenate([features, np.zeros((lacking, features.shape[1]), np.float32)])
        try:
            outputs = self._run(padded, timeout_s)
        except (ExportError, ServiceUnavailable) as error:
            raise PredictorUnavailable(str(error)) from error
        return to_prediction([array[: len(features)] for array in outputs], self._version)

    def _run(self, rows: Float32Array, timeout_s: float | None = None) -> list[Float32Array]:
        return [np.ascontiguousarray(array, np.float32) for array in self._found.run([rows], timeout_s)]


def chunks(features: Float32Array) -> list[Float32Array]:
    """Rows of a call each."""
    return [features[k : k + ROWS] for k in range(0, len(features), ROWS)]


def joined(parts: Sequence[Prediction], version: str) -> Prediction:
    """Of all calls."""

    def column(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    return Prediction(
        column("regime_probabilities"), column("strategy_signals"), column("strategy_weights"),
        column("target_position"), column("valid"), version,
    )  # fmt: skip

"""A recorded version asked again: where it is served, else beside what is served."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
from msgspec import Struct

from exporters.errors import ExportError
from exporters.profiles import DEFAULT_GPU, Gpu, find_gpu
from exporters.release.recalled import RecalledVersion, recalled
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from gateway.adapters.batch_dependence import batch_test
from gateway.adapters.triton import TritonPredictor
from gateway.warm_up import probe_rows, probe_ticks
from stack.processes.settings import gateway_settings
from stack.servers.settings import load
from trading.arrays import Float32Array
from trading.errors import ConfigurationError, ContractMismatch, PredictionError, ServiceUnavailable
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


def place_of_models() -> ModelPlace:
    """As the settings say."""
    repository = ModelRepository(load().model_repository)
    return ModelPlace(gateway_settings().tritons[0], repository, find_gpu(DEFAULT_GPU))


def ask(place: ModelPlace, model: str, version: str, features: Float32Array) -> Answered:
    """What a version answers to rows, float32 [n, features].

    Raises:
        ConfigurationError: it is no model of the gateway, or neither served nor to be loaded.
        ServiceUnavailable: Triton does not answer.
    """
    try:
        signature = contract(model)
    except KeyError:
        signature = None
    if signature is None or signature.outputs != TRADING_DECISION.outputs:
        raise ConfigurationError(f"{model!r} is no model of the gateway: name trading_decision or a variant")
    if not (version.isascii() and version.isdigit() and len(version) < MOST_DIGITS):
        raise ConfigurationError(f"{version!r} is no version of a model: give its number")
    with closing(TritonServer(place.address)) as triton:
        if int(version) in triton.ready(model):
            return ask_served(place, model, version, features)
        try:
            with recalled(place.repository, triton, place.gpu, model, int(version)) as found:
                return ask_recalled(triton, found, signature, version, features)
        except ExportError as error:
            raise ConfigurationError(
                f"version {version} of {model} is not served, and cannot be loaded beside what is: {error}"
            ) from error


def ask_served(place: ModelPlace, model: str, version: str, features: Float32Array) -> Answered:
    """As a gateway asks. Raises as `ask`."""
    try:
        with closing(TritonPredictor(place.address, model, version)) as predictor:
            # As it does at its start: batches of a size with which no answer depends on the company.
            serving = predictor.settle_rows(probe_rows(probe_ticks()))
            parts = [predictor.predict(rows, ASK_S) for rows in chunks(features)]
    except ContractMismatch as error:
        raise ConfigurationError(f"{error}: it cannot be asked as the gateway asks") from error
    except PredictionError as error:
        raise ServiceUnavailable(f"{model} version {version} does not answer: {error}") from error
    return Answered(joined(parts, version), serving, recalled=False)


def ask_recalled(
    triton: TritonServer, found: RecalledVersion, signature: ModelSignature, version: str, features: Float32Array
) -> Answered:
    """The same of a version that is loaded beside. Raises ExportError, ServiceUnavailable."""
    its = found.contract
    if (its.inputs, its.outputs, its.feature_version) != (
        signature.inputs, signature.outputs, signature.feature_version,
    ):  # fmt: skip
        raise ExportError(
            f"it was made for feature version {its.feature_version} and tensors {[t.name for t in its.inputs]} to "
            f"{[t.name for t in its.outputs]}; this version asks for feature version {signature.feature_version}"
        )

    def run(rows: Float32Array) -> list[Float32Array]:
        return [np.ascontiguousarray(array, np.float32) for array in found.run([rows])]

    tried = batch_test(
        lambda rows: [array.tobytes() for array in run(rows)], probe_rows(probe_ticks()), signature.max_batch_size
    )
    parts = []
    for rows in chunks(features):
        lacking = -len(rows) % tried.rows_multiple
        padded = np.concatenate([rows, np.zeros((lacking, rows.shape[1]), np.float32)])
        parts.append(to_prediction([array[: len(rows)] for array in run(padded)], version))
    serving = ServingFacts(triton.about(), found.devices, tried.rows_multiple, digest_of(tried.answers))
    return Answered(joined(parts, version), serving, recalled=True)


def chunks(features: Float32Array) -> list[Float32Array]:
    """Rows of a call each."""
    return [features[k : k + ROWS] for k in range(0, len(features), ROWS)]


def joined(parts: Sequence[Prediction], version: str) -> Prediction:
    """Of all calls."""

    def column(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    return Prediction(
        column("regime_probabilities"), column("strategy_signals"), column("strategy_weights"),
        column("target_position"), column("valid"), (version,),
    )  # fmt: skip

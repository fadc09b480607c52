"""What Triton answers over gRPC: checked, translated, and waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from connectors.triton.errors import Meaning, meaning, status_of
from connectors.triton.grpc import RpcError
from connectors.triton.inferring import Infer
from trading.arrays import Float32Array
from trading.errors import InvalidPrediction, PredictionError, PredictorDown, PredictorTimeout, PredictorUnavailable
from trading.models.prediction import Prediction
from trading.models.signature import ModelSignature, TensorSpec


class PendingAnswer:
    """Implements PendingPrediction: a call of Triton that goes on."""

    def __init__(self, infer: Infer, call: Any, read: Callable[[Any], Prediction]) -> None:
        self._infer, self._call, self._read = infer, call, read

    def result(self, timeout_s: float) -> Prediction:
        """Wait for it; a call that is late goes on, and its answer is nobody's."""
        try:
            answer = self._infer.finish(self._call, timeout_s)
        except RpcError as error:
            raise translate(error) from error
        return self._read(answer)


def translate(error: Any) -> PredictionError:
    """GRPC's status to our errors."""
    if meaning(error) is Meaning.TIMED_OUT:
        return PredictorTimeout(error.details())
    kind = PredictorDown if meaning(error) is Meaning.DOWN else PredictorUnavailable
    return kind(f"{status_of(error).name}: {error.details()}")


def tensors(answer: Any, signature: ModelSignature, rows: int) -> list[Float32Array]:
    """The outputs in the signature's order. Raises InvalidPrediction for another name, dtype or shape."""
    raw = answer.raw_output_contents
    found = {t.name: (t, raw[k]) for k, t in enumerate(answer.outputs) if k < len(raw)}
    return [tensor(found.get(spec.name), spec, rows) for spec in signature.outputs]


def tensor(found: tuple[Any, bytes] | None, spec: TensorSpec, rows: int) -> Float32Array:
    """One output, checked."""
    wanted = [rows, *spec.dims]
    if found is None:
        raise InvalidPrediction(f"{spec.name} is absent")
    described, content = found
    shape = list(described.shape)
    if described.datatype != spec.dtype or shape != wanted or len(content) != 4 * np.prod(wanted):
        raise InvalidPrediction(
            f"{spec.name} is {described.datatype} {shape} of {len(content)} bytes, expected {spec.dtype} {wanted}"
        )
    array: Float32Array = np.frombuffer(content, np.float32).reshape(wanted)
    return array

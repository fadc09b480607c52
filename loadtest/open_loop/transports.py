"""How the open model's calls reach a server: prepared, asked once to see an answer, and begun without waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from connectors.torchserve.errors import Meaning, RpcError, meaning
from connectors.torchserve.framing import AnswerRefused, answer, question
from connectors.torchserve.inferring import TorchServeInfer
from connectors.torchserve.tokens import of_file
from connectors.triton import grpc as triton
from connectors.triton.asking import Array, ServedModel, ServedTensor
from connectors.triton.errors import InferenceServerException
from loadtest.errors import InvalidRun
from loadtest.measuring import preflight
from loadtest.open_loop.rows import ModelRows
from trading.errors import BadRecord, ServiceUnavailable
from trading.models.signature import TensorSpec

#: Of the first call: a model may compile itself for it.
WARM_S = 30.0
#: Told of a call when it has ended: "" where it was answered, else what went wrong.
Ended = Callable[[str], None]


class Transport(Protocol):
    """A server that is loaded."""

    def check(self, model: str, version: str, batch: int) -> ServedModel:
        """What it serves. Raises InvalidRun."""

    def prepare(self, rows: ModelRows, at: int, batch: int) -> Any:
        """A request of rows from a place on, ready to be sent."""

    def warm(self, model: str, version: str, prepared: Any) -> None:
        """See one answer. Raises InvalidRun where there is none, or one that is not finite."""

    def begin(self, model: str, version: str, prepared: Any, timeout_s: float, ended: Ended) -> None:
        """Begin a call; `ended` is called in a thread of the client library."""

    def close(self) -> None:
        """Hang up."""


class TritonTransport:
    """Triton's gRPC."""

    def __init__(self, address: str) -> None:
        """Nothing is connected yet."""
        self._address, self._client = address, triton.InferenceServerClient(address)

    def check(self, model: str, version: str, batch: int) -> ServedModel:
        """See Transport."""
        return preflight.check_grpc(self._address, model, version, batch)

    def prepare(self, rows: ModelRows, at: int, batch: int) -> list[triton.InferInput]:
        """See Transport."""
        made = []
        for tensor, values in rows.batch(at, batch):
            one = triton.InferInput(tensor.name, list(values.shape), tensor.dtype)
            one.set_data_from_numpy(values)
            made.append(one)
        return made

    def warm(self, model: str, version: str, prepared: list[triton.InferInput]) -> None:
        """See Transport."""
        try:
            found = self._client.infer(model, prepared, version, client_timeout=WARM_S)
        except InferenceServerException as error:
            raise InvalidRun(f"{model} at {self._address} refuses a call: {error.message()}") from None
        for output in found.get_response().outputs:
            if output.datatype == "FP32":
                refuse_infinite(model, output.name, found.as_numpy(output.name))

    def begin(
        self, model: str, version: str, prepared: list[triton.InferInput], timeout_s: float, ended: Ended
    ) -> None:
        """See Transport."""

        # The client library passes `result` and `error` by name.
        def answered(*, error: InferenceServerException | None, **_: Any) -> None:
            ended("" if error is None else str(error.status() or error.message()))

        self._client.async_infer(model, prepared, answered, version, client_timeout=timeout_s)

    def close(self) -> None:
        """See Transport."""
        self._client.close()


class TorchServeTransport:
    """TorchServe's gRPC."""

    def __init__(self, address: str, token_file: Path) -> None:
        """Nothing is connected yet; `token_file` holds the token for inference."""
        self._address, self._infer = address, TorchServeInfer(address, of_file(token_file))

    def check(self, model: str, version: str, batch: int) -> ServedModel:
        """See Transport."""
        return preflight.check_torchserve(self._infer, model, version, batch)

    def prepare(self, rows: ModelRows, at: int, batch: int) -> dict[str, bytes]:
        """See Transport."""
        return asked(rows.batch(at, batch))

    def warm(self, model: str, version: str, prepared: dict[str, bytes]) -> None:
        """See Transport."""
        try:
            found = answer(self._infer(model, version, prepared, WARM_S))
        except RpcError as error:
            raise InvalidRun(f"{model} at {self._address} refuses a call: {meaning(error).value}") from None
        except (AnswerRefused, BadRecord, ServiceUnavailable) as error:
            raise InvalidRun(f"{model} at {self._address} refuses a call: {error}") from None
        for name, values in found.outputs.items():
            if values.dtype.kind == "f":
                refuse_infinite(model, name, values)

    def begin(self, model: str, version: str, prepared: dict[str, bytes], timeout_s: float, ended: Ended) -> None:
        """See Transport."""

        def again(call: Any) -> None:
            error = call.exception()
            if error is None or meaning(error) is not Meaning.DENIED:
                told_of(ended, call)
                return
            # The token was rotated: once more with the one that is there now.
            try:
                self._infer.take_token()
                self._infer.begin(model, version, prepared, timeout_s).add_done_callback(partial(told_of, ended))
            except ServiceUnavailable as gone:
                ended(str(gone))

        self._infer.begin(model, version, prepared, timeout_s).add_done_callback(again)

    def close(self) -> None:
        """See Transport."""
        self._infer.close()


def asked(some: Sequence[tuple[ServedTensor, Array]]) -> dict[str, bytes]:
    """A request of rows for our handler in TorchServe."""
    specs = [TensorSpec(tensor.name, tensor.dims, tensor.dtype) for tensor, _ in some]  # type: ignore[arg-type]
    return question(specs, [values for _, values in some])


def told_of(ended: Ended, call: Any) -> None:
    """How a call of gRPC's ended, and whether what came is an answer."""
    error = call.exception()
    if error is not None:
        ended(meaning(error).value)
        return
    try:
        answer(bytes(call.result().prediction))
    except (AnswerRefused, BadRecord) as refused:
        ended(str(refused))
    else:
        ended("")


def refuse_infinite(model: str, name: str, values: Any) -> None:
    """Raise InvalidRun for an answer that is not finite."""
    if not np.isfinite(values).all():
        raise InvalidRun(f"{model} answers {name} that is not finite")

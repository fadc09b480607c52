"""Any served model, asked with arrays: what it takes and answers with is told by the server itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from tritonclient.utils import triton_to_np_dtype

from connectors.triton.errors import InferenceServerException, Meaning, meaning
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.models.rows import cast

Array = npt.NDArray[Any]
Protocol = Literal["grpc", "http"]
#: A server's own words in a message.
WORDS = 400
TIMEOUT_S = 10.0


class ServedTensor(Struct, frozen=True):
    """An input or output; `dims` are those of one row, -1 where any length will do; `dtype` is Triton's name."""

    name: str
    dtype: str
    dims: tuple[int, ...]


class ServedModel(Struct, frozen=True):
    """What a server says of a model.

    Attributes:
        name, version: the version that answers where none is named; "" where the server does not say.
        inputs, outputs: without the batch axis where it has one.
        max_batch: rows of one request; 0 for a model that takes its inputs whole.
        whole: of such a model, the first axis of its inputs; -1 where any length will do, else 0.
    """

    name: str
    version: str
    inputs: tuple[ServedTensor, ...]
    outputs: tuple[ServedTensor, ...]
    max_batch: int
    whole: int = 0

    @property
    def rows_at_once(self) -> int | None:
        """Of one request; None where any number will do."""
        return self.max_batch or (self.whole if self.whole > 0 else None)


def served_model(name: str, metadata: Any, config: Any) -> ServedModel:
    """What a server's answers on a model mean.

    Args:
        name: of the model.
        metadata: its metadata by the open inference protocol, as JSON.
        config: its configuration, as JSON.

    Raises:
        ServiceUnavailable: they are no such answers: somebody else listens there.
    """
    try:
        most = int(config.get("max_batch_size", 0))
        inputs, outputs = (tuple(map(served_tensor, metadata[side])) for side in ("inputs", "outputs"))
        first = [int(t["shape"][0]) for t in metadata["inputs"] if t.get("shape")]
        version = max(metadata.get("versions") or [""], key=number)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ServiceUnavailable(
            f"what is said of the model {name} is no model's description: is it Triton that listens there?"
        ) from error
    return ServedModel(name, version, inputs, outputs, most, 0 if most else max(first, default=-1))


def served_tensor(told: Mapping[str, Any]) -> ServedTensor:
    """Of a model's metadata, without its first axis."""
    dims = tuple(int(dim) for dim in told.get("shape", ()))
    return ServedTensor(str(told["name"]), str(told.get("datatype", "")), dims[1:])


class ModelClient:
    """A connection to a Triton, by gRPC or HTTP; use it with `with`."""

    def __init__(self, address: str, protocol: Protocol = "grpc", timeout_s: float = TIMEOUT_S) -> None:
        """Nothing is asked yet.

        Args:
            address: host:port.
            protocol: "http" needs the extra `loadtest`.
            timeout_s: of each call.
        """
        self.address, self._protocol, self._timeout_s = address, protocol, timeout_s
        if protocol == "grpc":
            from connectors.triton import grpc as library
        else:
            from connectors.triton import http as library  # type: ignore[no-redef]
        self._library: Any = library
        self._client: Any = (
            library.InferenceServerClient(address, channel_args=[*library.RECONNECT, *library.UNLIMITED])
            if protocol == "grpc"
            else library.InferenceServerClient(address, connection_timeout=timeout_s, network_timeout=timeout_s)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def model(self, name: str, version: str = "") -> ServedModel:
        """What the server says of a model.

        Raises:
            ConfigurationError: it serves no such model or version; ServiceUnavailable: it does not answer.
        """
        told = self._asked(name, lambda: self._client.get_model_metadata(name, version, **self._plain()))
        config = self._asked(name, lambda: self._client.get_model_config(name, version, **self._plain()))
        return served_model(name, told, config.get("config", config) if isinstance(config, dict) else config)

    def infer(
        self, model: ServedModel, rows: Mapping[str, Array], version: str = "", outputs: Sequence[str] = ()
    ) -> dict[str, Array]:
        """Ask rows, in as many requests as they need.

        Args:
            model: what the server says of it.
            rows: [rows, *dims] by input, as many each; of the input's own dtype.
            version: "" asks the one that is served.
            outputs: what is wanted; default: all.

        Raises:
            ConfigurationError: an input is absent or does not fit, or the server refuses them.
            ServiceUnavailable: it does not answer in time.
        """
        wanted = [t.name for t in model.outputs if not outputs or t.name in outputs]
        if unknown := [name for name in outputs if name not in wanted]:
            told = ", ".join(t.name for t in model.outputs)
            raise ConfigurationError(f"{model.name} has no output {unknown[0]!r}: its outputs are {told}")
        if not model.inputs:
            raise ConfigurationError(f"{model.name} takes nothing: there is nothing to ask it")
        given = [fitted(model, tensor, rows) for tensor in model.inputs]
        count = len(given[0])
        if any(len(array) != count for array in given):
            told = ", ".join(f"{t.name}: {len(a)}" for t, a in zip(model.inputs, given, strict=True))
            raise ConfigurationError(f"each input must have as many rows as the others; they have {told}")
        at_once = model.rows_at_once or max(1, count)
        if model.whole > 0 and count % model.whole:
            raise ConfigurationError(f"{model.name} takes {model.whole} rows at once, and there are {count}")
        sent = [[array[k : k + at_once] for array in given] for k in range(0, count, at_once)]
        parts = [self._once(model, some, version, wanted) for some in sent]
        by_row = all(len(a) == len(some[0]) for some, part in zip(sent, parts, strict=True) for a in part.values())
        if len(parts) > 1 and not by_row:
            raise ConfigurationError(
                f"{model.name} does not answer a row for a row, so that the answers to {len(parts)} requests "
                f"cannot be told apart: ask {at_once} rows at most"
            )
        return {name: np.concatenate([part[name] for part in parts]) for name in wanted} if parts else {}

    def _once(self, model: ServedModel, given: list[Array], version: str, wanted: list[str]) -> dict[str, Array]:
        inputs = []
        for tensor, array in zip(model.inputs, given, strict=True):
            one = self._library.InferInput(tensor.name, list(array.shape), tensor.dtype)
            one.set_data_from_numpy(array)
            inputs.append(one)
        # All are asked for: an ensemble refuses otherwise, and of others what is not wanted costs little.
        found = self._asked(model.name, lambda: self._client.infer(model.name, inputs, version, **self._deadline()))
        answers = {name: found.as_numpy(name) for name in wanted}
        if absent := [name for name, values in answers.items() if values is None]:
            raise ConfigurationError(f"{model.name} has answered without its output {absent[0]}")
        return {name: np.atleast_1d(values) for name, values in answers.items()}

    def _plain(self) -> dict[str, Any]:
        return {"as_json": True, "client_timeout": self._timeout_s} if self._protocol == "grpc" else {}

    def _deadline(self) -> dict[str, Any]:
        return {"client_timeout": self._timeout_s} if self._protocol == "grpc" else {}

    def _asked(self, name: str, call: Any) -> Any:
        began_s = time.monotonic()
        try:
            return call()
        except InferenceServerException as error:
            raise self._refusal(name, error) from error
        # By HTTP: what is no HTTP, no JSON, or a connection that ends.
        except (OSError, HTTPException, ValueError) as error:
            waited = f" in {time.monotonic() - began_s:.1f} s" if isinstance(error, TimeoutError) else ""
            raise self._silence(f"{type(error).__name__}: {str(error)[:WORDS]}{waited}") from error

    def _refusal(self, name: str, error: Any) -> Exception:
        said = " ".join(str(error.message() or "").split())[:WORDS]
        if self._protocol == "grpc" and meaning(error) in {Meaning.DOWN, Meaning.TIMED_OUT}:
            return self._silence(said)
        return ConfigurationError(f"Triton at {self.address} refuses {name}: {said}")

    def _silence(self, said: str) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"Triton at {self.address} does not answer by {self._protocol} ({said}): start it with "
            "`ultrathink stack up`, or name another with --triton-url"
        )


def number(version: str) -> int:
    """To be compared; what is none comes first."""
    return int(version) if version.isdigit() else -1


def fitted(model: ServedModel, tensor: ServedTensor, rows: Mapping[str, Array]) -> Array:
    """One input's rows, of its dtype and dims. Raises ConfigurationError."""
    if tensor.name not in rows:
        told = ", ".join(f"{t.name} {t.dtype} {list(t.dims)}" for t in model.inputs)
        raise ConfigurationError(f"{model.name} takes {told}, and no rows are given for {tensor.name}")
    dtype = triton_to_np_dtype(tensor.dtype)
    if dtype is None or dtype is np.object_:
        raise ConfigurationError(
            f"{model.name} takes {tensor.dtype} for {tensor.name}: only numbers are asked here"
        )
    array = np.asarray(rows[tensor.name])
    array = array.reshape(-1, 1) if array.ndim == 1 and tensor.dims == (1,) else array
    dims = array.shape[1:]
    if len(dims) != len(tensor.dims) or any(b not in {-1, a} for a, b in zip(dims, tensor.dims, strict=True)):
        raise ConfigurationError(
            f"{model.name} takes {list(tensor.dims)} a row for {tensor.name}, and the rows have {list(dims)}"
        )
    return np.ascontiguousarray(cast(array, np.dtype(dtype), f"{model.name}: {tensor.name}"))

"""Triton as the exporters see it: load a model, ask it."""

from __future__ import annotations

import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from exporters.errors import ExportError
from exporters.parity import Outputs, Run
from gateway.domain.errors import ServiceUnavailable
from gateway.domain.signature import ModelSignature

LOAD_TIMEOUT_S = 120.0


class TritonServer:
    """A connection to a server that runs with explicit model control."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._client = grpcclient.InferenceServerClient(address)
        try:
            ready = self._client.is_server_ready(client_timeout=5.0)
        except InferenceServerException as error:
            raise ServiceUnavailable(
                f"Triton at {address} does not answer: start it with `ultrathink stack up`, or name "
                f"another with --triton-url ({error.message()})"
            ) from error
        if not ready:
            raise ServiceUnavailable(f"Triton at {address} says that it is not ready")

    def load(self, signature: ModelSignature, version: int) -> None:
        """Load a model and see that the version is ready. Raises ExportError with Triton's own words."""
        try:
            self._client.load_model(signature.name, client_timeout=LOAD_TIMEOUT_S)
            ready = self._client.is_model_ready(signature.name, str(version), client_timeout=5.0)
        except InferenceServerException as error:
            raise ExportError(f"Triton does not load {signature.name}: {error.message()}") from error
        if not ready:
            raise ExportError(f"Triton loaded {signature.name}, but not version {version}")

    def run(self, signature: ModelSignature, version: int) -> Run:
        """Ask a version through gRPC."""

        def run(arrays: Outputs) -> Outputs:
            inputs = []
            for spec, array in zip(signature.inputs, arrays, strict=True):
                tensor = grpcclient.InferInput(spec.name, list(array.shape), spec.dtype)
                tensor.set_data_from_numpy(array)
                inputs.append(tensor)
            try:
                result = self._client.infer(signature.name, inputs, model_version=str(version), client_timeout=30.0)
            except InferenceServerException as error:
                raise ExportError(f"Triton does not run {signature.name}: {error.message()}") from error
            return [result.as_numpy(spec.name) for spec in signature.outputs]

        return run

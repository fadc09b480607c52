"""Triton as the exporters see it: load, unload, ask, measure."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct

from connectors.triton import grpc as grpcclient
from connectors.triton.errors import InferenceServerException, Meaning, meaning
from exporters.errors import ExportError
from exporters.formats.config_pbtxt import Device, Serving, render_json
from exporters.formats.tensors import Arrays, Run
from trading.errors import ServiceUnavailable, UltraThinkError
from trading.models.signature import ModelSignature, TensorSpec

LOAD_TIMEOUT_S = 120.0
CONTROL_TIMEOUT_S = 10.0
#: A server that restarts in the middle is waited for this long.
RESTART_S = 30.0
#: What the client takes for no limit is below.
LEAST_S = 0.001
#: An ONNX file that copies a float32 column x to y: a process that only loads what others made has no ONNX.
HARMLESS = bytes.fromhex(
    "08083a500a100a017812017922084964656e7469747912086964656e746974795a180a017812130a110801120d0a07120562617463"
    "680a02080162180a017912130a110801120d0a07120562617463680a02080142040a001011"
)
T = TypeVar("T")


class Loaded(Struct, frozen=True):
    """A model's version in the server's index; version 0 where it names none."""

    name: str
    version: int
    state: str
    reason: str


class TritonServer:
    """A connection to a server that runs with explicit model control."""

    kind = "Triton"

    def __init__(self, address: str, load_timeout_s: float = LOAD_TIMEOUT_S) -> None:
        """Connect. Raises ServiceUnavailable when nothing answers there.

        Args:
            address: host:port of Triton's gRPC.
            load_timeout_s: after which a load, an unload or an answer counts as failed.
        """
        self.address, self._timeout_s = address, load_timeout_s
        self._client = grpcclient.InferenceServerClient(
            address, channel_args=[*grpcclient.RECONNECT, *grpcclient.UNLIMITED]
        )
        try:
            # Live, not ready: one model that did not load makes a whole server "not ready".
            live = self._client.is_server_live(client_timeout=CONTROL_TIMEOUT_S)
        except InferenceServerException as error:
            self.close()
            raise self._silent(error) from error
        if not live:
            self.close()
            raise ServiceUnavailable(f"Triton at {address} says that it is not live")

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def each(self) -> tuple[TritonServer, ...]:
        """Itself: see Tritons."""
        return (self,)

    def about(self) -> str:
        """The server's own name and version."""
        told = self._asked(lambda: self._client.get_server_metadata(client_timeout=CONTROL_TIMEOUT_S))
        return f"{told.name} {told.version}"

    def index(self) -> list[Loaded]:
        """Every model and version that the server knows."""
        found = self._asked(lambda: self._client.get_model_repository_index(client_timeout=CONTROL_TIMEOUT_S))
        return [Loaded(m.name, int(m.version or 0), m.state, m.reason) for m in found.models]

    def ready(self, name: str) -> set[int]:
        """Versions of a model that answer."""
        return {m.version for m in self.index() if m.name == name and m.state == "READY"}

    def is_loaded(self, name: str) -> bool:
        """Whether a model answers; a copy, which the server's index leaves out, too."""

        def asked() -> bool:
            try:
                return bool(self._client.is_model_ready(name, client_timeout=CONTROL_TIMEOUT_S))
            except InferenceServerException as error:
                if meaning(error) in {Meaning.ABSENT, Meaning.REFUSED}:
                    return False
                raise

        return self._asked(asked)

    def load(self, name: str) -> None:
        """Load a model as its configuration says. Raises ExportError with Triton's own words."""
        self._control(name, lambda: self._client.load_model(name, client_timeout=self._timeout_s))

    def load_copy(self, signature: ModelSignature, config_json: str, version: int, content: bytes) -> None:
        """Load a model that lies nowhere: configuration and file travel with the request.

        Raises:
            ExportError: Triton refuses it.
        """
        # An ensemble has no file, but a version is a folder, and a folder here is a file's.
        files = {f"file:{version}/{signature.file_name or 'ensemble'}": content}
        self._control(
            signature.name,
            lambda: self._client.load_model(
                signature.name, config=config_json, files=files, client_timeout=self._timeout_s
            ),
        )

    def sees(self, nonce: str) -> bool:
        """Whether it reads the folder that has just got a folder of this name."""
        return any(model.name == nonce for model in self.index())

    def forget(self, name: str) -> None:
        """Clear a copy that did not load: for its sake Triton would call the whole server "not ready" from now on.

        Unloading what failed changes nothing; a model that loads in its place, and is unloaded, does.
        """
        columns = TensorSpec("x", (1,)), TensorSpec("y", (1,))
        harmless = ModelSignature(name, "onnxruntime", columns[:1], columns[1:], (), None, 1)
        serving = Serving(versions=(1,), real_rows=False)
        with contextlib.suppress(UltraThinkError):
            for device in self.devices():
                with contextlib.suppress(ExportError):
                    self.load_copy(harmless, render_json(harmless, device, serving), 1, HARMLESS)
                    break
            self.unload(name)

    def unload(self, name: str) -> None:
        """Stop serving a model; Triton lets it answer what it has begun. Nothing where it is not loaded."""
        self._control(name, lambda: self._client.unload_model(name, client_timeout=self._timeout_s))

    def devices(self) -> tuple[Device, ...]:
        """Where this server can run models: as one that is loaded does, else both, to be tried."""
        for loaded in self.index():
            if loaded.state == "READY":
                return (self.device(loaded.name, loaded.version),)
        return ("gpu", "cpu")

    def device(self, name: str, version: int) -> Device:
        """Where a loaded version runs: "gpu" or "cpu"; of an ensemble, where its first step does."""
        config = self._asked(
            lambda: self._client.get_model_config(name, str(version), client_timeout=CONTROL_TIMEOUT_S)
        ).config
        if config.ensemble_scheduling.step:
            step = config.ensemble_scheduling.step[0]
            return self.device(step.model_name, step.model_version)
        kinds = {g.kind for g in config.instance_group}
        return "gpu" if grpcclient.model_config_pb2.ModelInstanceGroup.KIND_GPU in kinds else "cpu"

    def run(self, signature: ModelSignature, version: int, timeout_s: float | None = None) -> Run:
        """Ask a version through gRPC; an answer is waited for as long as a load where no time is given.

        What it returns raises ExportError, ServiceUnavailable.
        """
        wait_s = self._timeout_s if timeout_s is None else timeout_s

        def run(arrays: Arrays) -> Arrays:
            inputs = []
            for spec, array in zip(signature.inputs, arrays, strict=True):
                tensor = grpcclient.InferInput(spec.name, list(array.shape), spec.dtype)
                tensor.set_data_from_numpy(array)
                inputs.append(tensor)
            outputs = [grpcclient.InferRequestedOutput(t.name) for t in signature.outputs]
            # A server that was gone for a while has no more time for that.
            ends_s = time.monotonic() + wait_s
            result = self._control(
                signature.name,
                lambda: self._client.infer(
                    signature.name, inputs, str(version), outputs,
                    client_timeout=max(LEAST_S, ends_s - time.monotonic()),
                ),
                doing="run", wait_s=wait_s,
            )  # fmt: skip
            return [result.as_numpy(spec.name) for spec in signature.outputs]

        return run

    def _control(self, name: str, call: Callable[[], T], doing: str = "load", wait_s: float | None = None) -> T:
        wait_s = self._timeout_s if wait_s is None else wait_s
        try:
            return self._patiently(call, min(RESTART_S, wait_s))
        except InferenceServerException as error:
            said = " ".join((error.message() or "").split())[:500]
            if meaning(error) is Meaning.TIMED_OUT:
                said = f"no answer in {wait_s:g} s; see its log"
            if "explicit" in said and "not allowed" in said:
                raise ExportError(
                    f"Triton at {self.address} does not load on request: start it with "
                    "--model-control-mode=explicit"
                ) from error
            hint = ""
            if "failed to poll from model repository" in said or "no model" in said.lower():
                hint = "; is --repository the folder that this server serves?"
            raise ExportError(f"Triton at {self.address} does not {doing} {name}: {said}{hint}") from error

    def _asked(self, call: Callable[[], T]) -> T:
        """Raises ServiceUnavailable where it is not answered, or with an error: that says nothing of a model."""
        try:
            return self._patiently(call)
        except InferenceServerException as error:
            raise self._silent(error) from error

    def _patiently(self, call: Callable[[], T], patience_s: float = RESTART_S) -> T:
        """Repeat a call, all of ours may be repeated, while the server restarts."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return call()
            except InferenceServerException as error:
                if not gone(error):
                    raise
                if time.monotonic() > deadline:
                    raise self._silent(error) from error
                time.sleep(0.2)

    def _silent(self, error: Any) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"Triton at {self.address} does not answer: start it with `ultrathink stack up`, or name "
            f"another with --triton-url ({error.message()})"
        )


def gone(error: Any) -> bool:
    """Whether the server, rather than the model, did not answer."""
    said = str(error.message() or "").lower()
    return meaning(error) is Meaning.DOWN and any(
        word in said for word in ("connect", "socket", "refused", "reset", "closed", "server is stopping", "goaway")
    )

"""Triton by HTTP: the open inference protocol in JSON, and with binary tensors."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from geventhttpclient import HTTPClient
from locust import tag, task

from connectors.triton import http as triton
from loadtest.measuring import preflight
from loadtest.measuring.answers import finite
from loadtest.users.base import TIMEOUT_S, RowsUser

JSON_HEADERS = {"Content-Type": "application/json"}


class HttpUser(RowsUser):
    """One connection that is kept."""

    abstract = True
    protocol = "HTTP"

    def connect(self) -> None:
        """Open it."""
        self.take(preflight.check_http(self.options.triton_http, self.model, batch=self.batch))
        self.client = HTTPClient.from_url(
            self.options.triton_http, connection_timeout=TIMEOUT_S, network_timeout=TIMEOUT_S
        )
        self.path = f"/v2/models/{self.model}/infer"

    def on_stop(self) -> None:
        """Hang up."""
        if hasattr(self, "client"):
            self.client.close()

    def post(self, body: bytes, headers: dict[str, str]) -> bytes:
        """The answer's body. Raises ValueError with the server's words."""
        response: Any = self.client.post(self.path, body=body, headers=headers)
        answer = bytes(response.read())
        if response.status_code != 200:
            raise ValueError(f"HTTP {response.status_code}: {answer[:200].decode(errors='replace')}")
        self.header_length = response.get("inference-header-content-length")
        return answer


class TritonHttpJsonUser(HttpUser):
    """A batch as JSON every 10 ms, as curl or a browser would send it."""

    target = "http-json"

    @tag("triton", "http", "json")
    @task
    def infer(self) -> None:
        """A batch of real rows."""
        self.timed(self._infer)

    def _infer(self) -> int:
        body = {"inputs": [
            {"name": t.name, "shape": list(a.shape), "datatype": t.dtype, "data": a.ravel().tolist()}
            for t, a in self.some_rows()
        ]}  # fmt: skip
        answer = self.post(msgspec.json.encode(body), JSON_HEADERS)
        for output in msgspec.json.decode(answer)["outputs"]:
            finite(output["name"], np.array(output["data"]))
        return len(answer)


class TritonHttpBinaryUser(HttpUser):
    """The same with the binary extension: tensors behind a short JSON header."""

    target = "http-binary"

    @tag("triton", "http", "binary")
    @task
    def infer(self) -> None:
        """A batch of real rows."""
        self.timed(self._infer)

    def _infer(self) -> int:
        tensors = []
        for tensor, array in self.some_rows():
            tensors.append(triton.InferInput(tensor.name, list(array.shape), tensor.dtype))
            tensors[-1].set_data_from_numpy(array, binary_data=True)
        # All outputs, as the gateway asks: an ensemble whose outputs feed its own steps refuses to leave any out.
        body, length = triton.InferenceServerClient.generate_request_body(tensors)
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(length)}
        answer = self.post(bytes(body), headers)
        result = triton.InferenceServerClient.parse_response_body(answer, header_length=int(self.header_length))
        for output in result.get_response()["outputs"]:
            finite(output["name"], result.as_numpy(output["name"]))
        return len(answer)

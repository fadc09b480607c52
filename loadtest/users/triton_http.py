"""Triton by HTTP: the open inference protocol in JSON, and with binary tensors."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from geventhttpclient import HTTPClient
from locust import tag, task

from connectors.triton import http as triton
from loadtest.users.base import TIMEOUT_S, RowsUser, finite
from trading.models.signature import FEATURES_TENSOR, TARGET_TENSOR

JSON_HEADERS = {"Content-Type": "application/json"}


class HttpUser(RowsUser):
    """One connection that is kept."""

    abstract = True
    protocol = "HTTP"

    def connect(self) -> None:
        """Open it."""
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
        rows = self.some_rows()
        tensor = {"name": FEATURES_TENSOR.name, "shape": list(rows.shape), "datatype": "FP32"}
        body = {"inputs": [{**tensor, "data": rows.ravel().tolist()}]}
        answer = self.post(msgspec.json.encode(body), JSON_HEADERS)
        outputs = {output["name"]: output["data"] for output in msgspec.json.decode(answer)["outputs"]}
        finite(np.array(outputs[TARGET_TENSOR.name], np.float32))
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
        tensor = triton.InferInput(FEATURES_TENSOR.name, [self.batch, *FEATURES_TENSOR.dims], "FP32")
        tensor.set_data_from_numpy(self.some_rows(), binary_data=True)
        # All outputs, as the gateway asks: an ensemble whose outputs feed its own steps refuses to leave any out.
        body, length = triton.InferenceServerClient.generate_request_body([tensor])
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(length)}
        answer = self.post(bytes(body), headers)
        result = triton.InferenceServerClient.parse_response_body(answer, header_length=int(self.header_length))
        finite(result.as_numpy(TARGET_TENSOR.name))
        return len(answer)

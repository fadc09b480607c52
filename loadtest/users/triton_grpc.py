"""Triton by gRPC: single calls, and one stream of calls."""

from __future__ import annotations

from typing import Any

from gevent import Timeout
from gevent.queue import Queue
from locust import tag, task

from connectors.triton import grpc as triton
from loadtest.measuring import preflight
from loadtest.measuring.answers import finite
from loadtest.users.base import TIMEOUT_S, RowsUser


class GrpcUser(RowsUser):
    """A channel of its own."""

    abstract = True

    def connect(self) -> None:
        """Open the channel."""
        self.take(preflight.check_grpc(self.options.triton_grpc, self.model, batch=self.batch))
        self.client = triton.InferenceServerClient(self.options.triton_grpc)

    def on_stop(self) -> None:
        """Close the channel: an open one keeps the process from ending under gevent."""
        if hasattr(self, "client"):
            self.client.close()
            # Its destructor closes again: now, while there is a loop to do that in.
            del self.client

    def inputs(self) -> list[triton.InferInput]:
        """A batch."""
        made = []
        for tensor, array in self.some_rows():
            one = triton.InferInput(tensor.name, list(array.shape), tensor.dtype)
            one.set_data_from_numpy(array)
            made.append(one)
        return made


class TritonGrpcUser(GrpcUser):
    """One call of a batch every 10 ms."""

    target, protocol = "grpc", "gRPC"

    @tag("triton", "grpc")
    @task
    def infer(self) -> None:
        """A batch of real rows."""
        self.timed(self._infer)

    def _infer(self) -> int:
        result = self.client.infer(self.model, self.inputs(), client_timeout=TIMEOUT_S)
        return checked(result)


class TritonStreamUser(GrpcUser):
    """The same over one bidirectional stream."""

    target, protocol = "stream", "gRPC stream"

    def connect(self) -> None:
        """A channel, and its stream."""
        super().connect()
        self.open_stream()

    def open_stream(self) -> None:
        """A stream, and a queue of its answers alone."""
        answers: Queue[tuple[Any, Any]] = Queue()
        self.answers = answers
        self.client.start_stream(lambda result, error: answers.put((result, error)))

    def on_stop(self) -> None:
        """End the stream first."""
        if hasattr(self, "client"):
            self.client.stop_stream(cancel_requests=True)
        super().on_stop()

    @tag("triton", "stream")
    @task
    def infer(self) -> None:
        """A batch of real rows."""
        self.timed(self._infer)

    def _infer(self) -> int:
        self.client.async_stream_infer(self.model, self.inputs())
        try:
            with Timeout(TIMEOUT_S):
                result, error = self.answers.get()
        except Timeout:
            # An answer that comes after all must not be taken for the next one's.
            result, error = None, TimeoutError(f"no answer on the stream within {TIMEOUT_S:g} s")
        if error is not None:
            # A stream does not outlive an error.
            self.client.stop_stream(cancel_requests=True)
            self.open_stream()
            raise error
        return checked(result)


def checked(result: Any) -> int:
    """The size of an answer. Raises ValueError for one that is no number."""
    for output in result.get_response().outputs:
        finite(output.name, result.as_numpy(output.name))
    return int(result.get_response().ByteSize())

"""ModelInfer for the live path: a third of what the client library takes for a call."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from connectors.triton.errors import NoAnswerInTime
from connectors.triton.grpc import RECONNECT

#: So many calls may have been left to themselves of late; a next one waits for the first of them.
MOST_LEFT = 2
#: Who has not answered for so long is stuck: others are tried beside it, and so many are held in all.
STUCK_S, MOST_HELD = 2.0, 16
#: And so long: whoever has not answered by then does not complete it in that very moment.
LEFT_S = 60.0
#: How long a closing waits for calls that were left.
CLOSING_S = 1.0


class Infer:
    """Calls of one Triton that nobody cancels.

    A Triton may die (SIGSEGV) of a call that is cancelled, or whose deadline passes, in the moment in which it is
    completed (issue 8034 of triton-inference-server/server, of February 2025; 24.10 does). So who has waited long
    enough leaves a call to itself, and how many are left so is bounded. Only a closing cancels what is left then.
    """

    def __init__(self, address: str) -> None:
        """Nothing is connected yet; `address` is host:port of its gRPC."""
        self._channel = grpc.insecure_channel(address, options=RECONNECT)
        self._begin = service_pb2_grpc.GRPCInferenceServiceStub(self._channel).ModelInfer.future
        self._lock = threading.Lock()
        #: They are held: a call that is forgotten is cancelled.
        self._left: list[tuple[float, Any]] = []

    def __call__(self, request: Any, timeout_s: float) -> Any:
        """The answer to a request. Raises NoAnswerInTime after `timeout_s`, or what RpcError gRPC has."""
        ends_s = time.monotonic() + timeout_s
        if self._left:
            self._wait_for_room(ends_s)
            if time.monotonic() >= ends_s:
                raise NoAnswerInTime(f"earlier calls took all of its {timeout_s * 1e3:.0f} ms")
        call = self._begin(request, timeout=LEFT_S)
        try:
            return call.result(timeout=max(0.0, ends_s - time.monotonic()))
        except grpc.FutureTimeoutError:
            with self._lock:
                self._left.append((time.monotonic(), call))
            raise NoAnswerInTime(f"no answer within {timeout_s * 1e3:.0f} ms") from None

    def close(self) -> None:
        """Close the channel, after a moment for what still comes."""
        ends_s = time.monotonic() + CLOSING_S
        for _, call in self._left:
            wait_for(call, ends_s)
        self._channel.close()

    def _wait_for_room(self, ends_s: float) -> None:
        while True:
            with self._lock:
                self._left = [one for one in self._left if not one[1].done()]
                fresh_s = time.monotonic() - STUCK_S
                fresh = [one for one in self._left if one[0] > fresh_s]
                if len(fresh) < MOST_LEFT and len(self._left) < MOST_HELD:
                    return
                since_s, oldest = (fresh or self._left)[0]
            until_s = since_s + STUCK_S if len(self._left) < MOST_HELD else ends_s
            if not wait_for(oldest, min(ends_s, until_s)) and time.monotonic() >= ends_s:
                raise NoAnswerInTime(f"{len(self._left)} earlier calls are not answered yet")


def wait_for(call: Any, ends_s: float) -> bool:
    """Whether it has ended before a moment of the monotonic clock, however it did."""
    with contextlib.suppress(grpc.FutureCancelledError):
        try:
            call.exception(timeout=max(0.0, ends_s - time.monotonic()))
        except grpc.FutureTimeoutError:
            return False
    return True

"""ModelInfer for the live path: a third of what the client library takes for a call."""

from __future__ import annotations

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
        self._changed = threading.Condition()
        #: They are held: a call that is forgotten is cancelled.
        self._left: list[tuple[float, Any]] = []

    def __call__(self, request: Any, timeout_s: float) -> Any:
        """The answer to a request. Raises NoAnswerInTime after `timeout_s`, or what RpcError gRPC has."""
        ends_s = time.monotonic() + timeout_s
        if self._left:
            self._wait_for_room(ends_s)
        return self._finish(self._begin(request, timeout=LEFT_S), ends_s, timeout_s)

    def begin(self, request: Any) -> Any:
        """Begin a call, to be waited for by `finish`. Raises NoAnswerInTime where too many are left already."""
        if not self._has_room():
            raise NoAnswerInTime(f"{len(self._left)} earlier calls are not answered yet")
        return self._begin(request, timeout=LEFT_S)

    def finish(self, call: Any, timeout_s: float) -> Any:
        """The answer of a call that was begun. Raises as a call does."""
        return self._finish(call, time.monotonic() + timeout_s, timeout_s)

    def _finish(self, call: Any, ends_s: float, timeout_s: float) -> Any:
        if ended(call, ends_s):
            return call.result()
        with self._changed:
            self._left.append((time.monotonic(), call))
        call.add_done_callback(self._tell)
        raise NoAnswerInTime(f"no answer within {timeout_s * 1e3:.0f} ms")

    def close(self) -> None:
        """Close the channel, after a moment for what still comes."""
        ends_s = time.monotonic() + CLOSING_S
        for _, call in self._left:
            ended(call, ends_s)
        self._channel.close()

    def _tell(self, _: Any) -> None:
        with self._changed:
            self._changed.notify_all()

    def _wait_for_room(self, ends_s: float) -> None:
        with self._changed:
            while True:
                fresh, is_full = self._look()
                now_s = time.monotonic()
                if now_s >= ends_s:
                    raise NoAnswerInTime(f"{len(self._left)} earlier calls are not answered yet")
                if len(fresh) < MOST_LEFT and not is_full:
                    return
                # The first of them may be taken for stuck before it ends.
                until_s = ends_s if is_full else min(ends_s, fresh[0] + STUCK_S)
                self._changed.wait(max(0.001, until_s - now_s))

    def _has_room(self) -> bool:
        if not self._left:
            return True
        with self._changed:
            fresh, is_full = self._look()
            return len(fresh) < MOST_LEFT and not is_full

    def _look(self) -> tuple[list[float], bool]:
        """Since when calls are left that are not stuck yet, and whether no more can be held; under the lock."""
        now_s = time.monotonic()
        self._left = [one for one in self._left if not one[1].done()]
        return [since_s for since_s, _ in self._left if since_s > now_s - STUCK_S], len(self._left) >= MOST_HELD


def ended(call: Any, ends_s: float) -> bool:
    """Whether it ends before a moment of the monotonic clock; gRPC's own waiting follows the wall clock's leaps."""
    done = threading.Event()
    call.add_done_callback(lambda _: done.set())
    return done.wait(max(0.0, ends_s - time.monotonic()))

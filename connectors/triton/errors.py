"""What gRPC and Triton's clients raise, as meanings: one table for every status that there is."""

from __future__ import annotations

from enum import Enum
from typing import Any

from grpc import RpcError, StatusCode
from tritonclient.utils import InferenceServerException

__all__ = ["InferenceServerException", "Meaning", "NoAnswerInTime", "did_not_answer", "meaning", "status_of"]


class Meaning(Enum):
    """What a status means for whoever asked."""

    ANSWERED = "answered"
    TIMED_OUT = "no answer in time"
    DOWN = "not reached"
    DENIED = "not allowed"
    ABSENT = "not there"
    REFUSED = "refused"


MEANINGS: dict[StatusCode, Meaning] = {
    StatusCode.OK: Meaning.ANSWERED,
    StatusCode.CANCELLED: Meaning.TIMED_OUT,
    StatusCode.DEADLINE_EXCEEDED: Meaning.TIMED_OUT,
    StatusCode.UNAVAILABLE: Meaning.DOWN,
    StatusCode.PERMISSION_DENIED: Meaning.DENIED,
    StatusCode.UNAUTHENTICATED: Meaning.DENIED,
    StatusCode.NOT_FOUND: Meaning.ABSENT,
    StatusCode.UNIMPLEMENTED: Meaning.ABSENT,
    StatusCode.UNKNOWN: Meaning.REFUSED,
    StatusCode.INVALID_ARGUMENT: Meaning.REFUSED,
    StatusCode.ALREADY_EXISTS: Meaning.REFUSED,
    StatusCode.RESOURCE_EXHAUSTED: Meaning.REFUSED,
    StatusCode.FAILED_PRECONDITION: Meaning.REFUSED,
    StatusCode.ABORTED: Meaning.REFUSED,
    StatusCode.OUT_OF_RANGE: Meaning.REFUSED,
    StatusCode.INTERNAL: Meaning.REFUSED,
    StatusCode.DATA_LOSS: Meaning.REFUSED,
}


class NoAnswerInTime(RpcError):  # type: ignore[misc]  # gRPC has no types
    """A call that was waited for as long as there was time; it goes on."""

    def __init__(self, why: str) -> None:
        """`why` is what its `details` say."""
        super().__init__(why)
        self._why = why

    def code(self) -> StatusCode:
        """As if its deadline had passed."""
        return StatusCode.DEADLINE_EXCEEDED

    def details(self) -> str:
        """What happened."""
        return self._why


def status_of(error: Any) -> StatusCode:
    """The status of an RpcError or an InferenceServerException; UNKNOWN where it has none."""
    if isinstance(error, RpcError):
        code: StatusCode = error.code()
        return code
    # "StatusCode.UNAVAILABLE"; HTTP's are numbers, and mean nothing here.
    name = str(error.status() or "").rpartition(".")[2]
    return StatusCode.__members__.get(name, StatusCode.UNKNOWN)


def meaning(error: Any) -> Meaning:
    """What the error means."""
    return MEANINGS[status_of(error)]


def did_not_answer(error: Any) -> bool:
    """Whether the server was not reached, or too slow; else it answered, and refused."""
    return meaning(error) in {Meaning.DOWN, Meaning.TIMED_OUT}

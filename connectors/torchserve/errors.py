"""What TorchServe answers where it does not answer as it was asked, as meanings."""

from __future__ import annotations

from enum import Enum
from typing import Any

from grpc import RpcError, StatusCode

__all__ = ["Meaning", "RpcError", "meaning"]


class Meaning(Enum):
    """What a failed call means for whoever asked."""

    TIMED_OUT = "no answer in time"
    DOWN = "not reached"
    DENIED = "the token is none, or was one"
    ABSENT = "no such model or version"
    DIED = "the worker that was asked died"
    BUSY = "no worker is free: too many calls wait, or none is left"
    REFUSED = "refused"


#: TorchServe 0.12 gives most of what goes wrong one of two statuses, and says what it was in its words alone.
WORDS = (
    ("Token Authorization failed", Meaning.DENIED),
    ("Worker died", Meaning.DIED),
    ("Model not found", Meaning.ABSENT),
    ("does not exist for model", Meaning.ABSENT),
    # The queue is full, or no worker has begun yet: it says the same of both.
    ("has no worker to serve inference request", Meaning.BUSY),
)
STATUSES = {
    StatusCode.CANCELLED: Meaning.TIMED_OUT,
    StatusCode.DEADLINE_EXCEEDED: Meaning.TIMED_OUT,
    StatusCode.UNAVAILABLE: Meaning.DOWN,
    StatusCode.PERMISSION_DENIED: Meaning.DENIED,
    StatusCode.UNAUTHENTICATED: Meaning.DENIED,
    StatusCode.NOT_FOUND: Meaning.ABSENT,
}


def meaning(error: Any) -> Meaning:
    """What an RpcError of TorchServe's means."""
    said = error.details() or ""
    for words, found in WORDS:
        if words in said:
            return found
    return STATUSES.get(error.code(), Meaning.REFUSED)

"""What commands ask of a supervisor that runs: a file a request, taken once."""

from __future__ import annotations

import contextlib
import time
import uuid
from pathlib import Path
from typing import Literal

from msgspec import Struct

from trading.encoding import Records, encode
from trading.errors import BadRecord
from trading.files import write_atomically

#: Older ones are of a supervisor that is gone: nobody waits for them.
STALE_S = 30.0


class Request(Struct, frozen=True):
    """Something to do.

    Attributes:
        action: `restart` one service, or `apply` the settings that are kept now.
        name: of the service.
        reason: for its last exit, as people read it.
        at_s: wall time of asking.
    """

    action: Literal["restart", "apply"]
    name: str = ""
    reason: str = ""
    at_s: float = 0.0


_requests = Records(Request)


def folder(home: Path) -> Path:
    """Where requests lie."""
    return home / "run" / "requests"


def ask(home: Path, action: Literal["restart", "apply"], name: str = "", reason: str = "") -> None:
    """Leave a request."""
    folder(home).mkdir(parents=True, exist_ok=True)
    request = Request(action, name, reason, time.time())
    write_atomically(folder(home) / f"{uuid.uuid4().hex}.json", encode(request).decode(), mode=0o600)


def take(home: Path) -> list[Request]:
    """Those that were asked since, the oldest first; none is given twice."""
    found = []
    for path in folder(home).glob("*.json"):
        with contextlib.suppress(OSError, BadRecord):
            request = _requests.read(path.read_bytes())
            if abs(time.time() - request.at_s) < STALE_S:
                found.append(request)
        with contextlib.suppress(OSError):
            path.unlink()
    return sorted(found, key=lambda request: request.at_s)

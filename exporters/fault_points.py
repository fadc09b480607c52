"""Points at which the tests kill the exporter, to prove that none of them leaves anything broken.

Each is named once, here, and reached once in the code; with ULTRATHINK_FAULT unset they do nothing.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    "staged",
    "written",
    "before_publish",
    "published",
    "journal_begun",
    "candidate_loaded",
    "candidate_passed",
    "half_configured",
    "configured",
    "loaded",
    "flipped",
    "narrowed",
    "pruning",
)


def reach(point: str) -> None:
    """Die here, as kill -9 does, when the environment says so; "point:2" dies at the second time."""
    wanted = os.environ.get("ULTRATHINK_FAULT", "")
    name, _, count = wanted.partition(":")
    if name != point:
        return
    left = int(count or 1) - 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    os.environ["ULTRATHINK_FAULT"] = f"{name}:{left}"

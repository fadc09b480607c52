"""Waiting for what becomes true by itself."""

from __future__ import annotations

import time

LOOK_S = 0.02


def eventually(condition, seconds=60.0):
    """What the condition gives, once that is true; fails after so long."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(LOOK_S)
    return found

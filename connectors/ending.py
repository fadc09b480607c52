"""How a process of ours is told to end."""

from __future__ import annotations

import signal
import threading


def told_to_end() -> threading.Event:
    """Set by SIGTERM and SIGINT from now on; to be asked for by the main thread."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping

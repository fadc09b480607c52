"""Signals of this process, handled otherwise for a while."""

from __future__ import annotations

import signal
from contextlib import contextmanager


@contextmanager
def handled(number, handler):
    """While this lasts; what was before holds again at the end."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)

"""The kill switch as a file: whoever can touch it stops the desk."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from gateway.domain.errors import ServiceUnavailable
from gateway.domain.schemas import TradingState
from gateway.ports import StateStore

log = structlog.get_logger()
LOOK_S = 0.02
AGAIN_S = 1.0
#: Within this time what was latched has come back by the control topic.
HEARD_S = 2.0


class KillFile:
    """Implements StateStore: KILLED while the file exists, and until that is latched for all.

    Removing the file does not resume: the latch stays until a human says so, with a reason.
    """

    def __init__(self, path: Path, states: StateStore, latch: Callable[[str], object]) -> None:
        """Begin to look.

        Args:
            path: of the file.
            states: what holds without it.
            latch: kills the desk for all gateways, for a reason. Raises ServiceUnavailable.
        """
        self._path, self._states, self._latch = path, states, latch
        self._killed = path.exists()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._look, name="kill-file", daemon=True)
        self._thread.start()

    def trading_state(self) -> TradingState:
        """The more severe of both."""
        if self._killed:
            return TradingState.KILLED
        return self._states.trading_state()

    def close(self) -> None:
        """Stop looking."""
        self._closing.set()
        self._thread.join(2.0)

    def _look(self) -> None:
        latched_s = math.inf
        while not self._closing.wait(LOOK_S):
            there = self._path.exists()
            self._killed = self._killed or there
            if self._killed and math.isinf(latched_s) and self._told():
                latched_s = time.monotonic()
            # Then the latch holds it, as soon as this gateway has heard of it itself.
            if self._killed and not there and time.monotonic() > latched_s + HEARD_S:
                self._killed, latched_s = False, math.inf

    def _told(self) -> bool:
        try:
            self._latch(f"{self._path} exists")
        except ServiceUnavailable as error:
            log.warning("killed here; the others could not be told", reason=str(error)[:200])
            self._closing.wait(AGAIN_S)
            return False
        log.warning("killed", file=str(self._path))
        return True

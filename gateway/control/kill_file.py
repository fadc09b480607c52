"""The kill switch as a file: whoever can touch it stops the desk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from gateway.ports import StateStore
from gateway.workers import Worker
from trading.risk.trading_state import TradingState

log = structlog.get_logger()
LOOK_S = 0.02
AGAIN_S = 1.0


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
        self._killed = is_there(path)
        self._closing = threading.Event()
        self.worker = Worker("kill-file", self._look)
        self.worker.start()

    def trading_state(self) -> TradingState:
        """The more severe of both."""
        if self._killed:
            return TradingState.KILLED
        return self._states.trading_state()

    def close(self) -> None:
        """Stop looking."""
        self._closing.set()
        self.worker.join(2.0)

    def _look(self) -> None:
        told = heard = False
        while not self._closing.wait(LOOK_S):
            there = is_there(self._path)
            self._killed = self._killed or there
            if not self._killed:
                continue
            told = told or self._told()
            # The latch holds it once it has come back to this gateway.
            heard = heard or (told and self._states.trading_state() is TradingState.KILLED)
            if heard and not there:
                self._killed = told = heard = False

    def _told(self) -> bool:
        try:
            self._latch(f"{self._path} exists")
        except Exception as error:  # noqa: BLE001 - whatever it is, this gateway is killed, and tries again
            log.warning("killed here; the others could not be told", reason=str(error)[:200])
            self._closing.wait(AGAIN_S)
            return False
        log.warning("killed", file=str(self._path))
        return True


def is_there(path: Path) -> bool:
    """What cannot be looked at counts as a file that is there."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        log.warning("the kill file cannot be looked at, so it counts as there", reason=str(error))
    return True

"""Watches the disk of a stack: the desk is reduced, and told why, before there is no room left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from stack.servers.settings import StackSettings, free_disk_mb
from trading.errors import UltraThinkError

LOOK_S = 2.0
#: Between two tries to tell.
AGAIN_S = 5.0


class DiskWatch:
    """Tells once that space runs out, and again only after there was enough of it."""

    def __init__(
        self,
        home: Path,
        least_mb: int,
        reduce: Callable[[str], None],
        free_mb: Callable[[Path], int] = free_disk_mb,
    ) -> None:
        """Look now and then, in the thread of whoever calls `look`.

        Args:
            home: whose disk.
            least_mb: below which the desk is reduced.
            reduce: tells the desk, with a reason. Raises UltraThinkError where nobody can be told.
            free_mb: space that is left, MB.
        """
        self._home, self._least_mb, self._reduce, self._free_mb = home, least_mb, reduce, free_mb
        self._next_s, self._told = 0.0, False
        self._telling: threading.Thread | None = None
        self.problem = ""

    def look(self, now_s: float) -> None:
        """See what is left, at monotonic time `now_s`; the desk is told in a thread, since servers may hang."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + LOOK_S
        try:
            left = self._free_mb(self._home)
        except OSError as error:
            self.problem = f"the disk of {self._home} cannot be looked at: {error.strerror}"
            return
        if left >= self._least_mb:
            self.problem, self._told = "", False
            return
        self.problem = (
            f"the disk of {self._home} has {left:,} MB left, less than {self._least_mb:,}: the desk is reduced; "
            "free some, then `ultrathink gateway resume`"
        )
        if not self._told and (self._telling is None or not self._telling.is_alive()):
            self._telling = threading.Thread(target=self._tell, args=(self.problem,), name="disk", daemon=True)
            self._telling.start()

    def _tell(self, problem: str) -> None:
        try:
            self._reduce(problem)
        except UltraThinkError:
            time.sleep(AGAIN_S)
        else:
            self._told = True


def reduce_desk(settings: StackSettings) -> Callable[[str], None]:
    """What latches the desk's trading state, wherever it still can be written."""

    def reduce(reason: str) -> None:
        # Its clients are wanted only here, and only then.
        from connectors.kafka.topics import TOPICS
        from gateway.control.control import Control
        from trading.risk.trading_state import TradingState

        control = Control(settings.kafka_bootstrap, TOPICS.control, settings.redis_url)
        control.latch(TradingState.REDUCING, reason, "supervisor")

    return reduce

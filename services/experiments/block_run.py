"""What the desk decided, taken as it comes, and counted by blocks that end once they have ended everywhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from services.experiments.evaluation import ChallengerOutcome
from services.experiments.ports import DecisionLog
from trading.decision.schema import Decision
from trading.errors import ConfigurationError, UltraThinkError


class Decided(Protocol):
    """Whatever comes with a decision."""

    @property
    def decision(self) -> Decision:
        """Read."""


class Partitioned(Protocol):
    """What is counted of a partition."""

    @property
    def block(self) -> int:
        """The one that goes on; negative before the first tick."""


Row = TypeVar("Row", bound=Decided)
Dump = TypeVar("Dump")


class LogPlaces(Struct, frozen=True, array_like=True):
    """How far a log was taken.

    Attributes:
        positions: partition -> the offset of its decisions from where to go on.
        decided: partition -> the last tick whose decision was taken; negative for none.
        rows: decisions that were taken.
    """

    positions: dict[int, int]
    decided: dict[int, int]
    rows: int


class CheckpointRefused(ConfigurationError):
    """A copy is of another version, or of other partitions: nobody can go on from it."""


class BlockRun(ABC, Generic[Row, Dump]):
    """A log followed from where nothing is counted.

    Attributes:
        rows: decisions that were taken.
        ended: why it cannot go on; "" while it can.
        ended_by: the error that this is.
        behind_s: wall time since the newest decision that was taken, of the partition that is furthest behind; 0 at
            the end of all: a block ends where the last one has passed it.
    """

    def __init__(self, log: DecisionLog[Row], partitions: Mapping[int, Partitioned]) -> None:
        """Nothing was taken yet.

        Args:
            log: of what the desk decides.
            partitions: what is counted of each.
        """
        self._log, self._partitioned = log, partitions
        self.rows, self.ended, self.behind_s = 0, "", 0.0
        self.ended_by: UltraThinkError | None = None
        #: Partition -> when its newest decision that was taken was made, ns since 1970.
        self._decided_ns: dict[int, int] = {}
        self._opened_ns = time.time_ns()

    @property
    def is_at_end(self) -> bool:
        """Whether all that there is was taken, in every partition."""
        return all(self._log.at_end(partition) for partition in self._partitioned)

    @property
    def is_heard(self) -> bool:
        """Whether each partition has told something since this was opened: no block ends without all."""
        return all(p in self._decided_ns or self._log.at_end(p) for p in self._partitioned)

    # ---- what is counted ----------------------------------------------------------------------

    @property
    @abstractmethod
    def block_count(self) -> int:
        """How many have ended everywhere."""

    @abstractmethod
    def harm(self) -> str:
        """What the blocks so far show, in a sentence; "" where they show none."""

    @abstractmethod
    def judged(self) -> Sequence[ChallengerOutcome]:
        """What is known of each challenger; empty where nothing is judged by this."""

    @abstractmethod
    def dump(self) -> Dump:
        """Where it stands between two turns, to be written before the next."""

    @abstractmethod
    def _take(self, partition: int, rows: Sequence[Row]) -> None:
        """Of one partition, in the order of its log."""

    @abstractmethod
    def _pass(self, partition: int, block: int) -> None:
        """A partition is quiet, and others are far ahead: what lies before the block has ended there too."""

    @abstractmethod
    def _end(self, through: int) -> None:
        """Blocks up to this one have ended everywhere."""

    def _after(self) -> None:
        """Whatever is to be looked at after a turn's rows, before blocks end."""

    # ---- taking -------------------------------------------------------------------------------

    def turn(self, timeout_s: float) -> int:
        """Take what has come; returns how many decisions these were.

        What keeps it from going on once it has begun ends it, with what is known by then.

        Raises:
            UltraThinkError: it cannot even begin.
        """
        try:
            return self._turn(timeout_s)
        except UltraThinkError as error:
            if not self.rows:
                raise
            self.ended, self.ended_by = str(error), error
            return 0

    @property
    def places(self) -> LogPlaces:
        """How far the log was taken, between two turns."""
        log, partitions = self._log, self._partitioned
        return LogPlaces(
            {p: log.position(p) for p in partitions}, {p: log.decided(p) for p in partitions}, self.rows
        )

    def has_reached(self, places: Mapping[int, int]) -> bool:
        """Whether all that lies before these offsets of the decisions was taken."""
        return all(self._log.position(partition) >= place for partition, place in places.items())

    def _turn(self, timeout_s: float) -> int:
        found = self._log.poll(timeout_s)
        for partition, rows in sorted(found.items()):
            self._take(partition, rows)
        newest = max((one.block for one in self._partitioned.values()), default=-1)
        for partition in self._partitioned:
            if self._log.at_end(partition):
                self._pass(partition, newest - 1)
        self._after()
        begun = [one.block for one in self._partitioned.values() if one.block >= 0]
        waiting = any(one.block < 0 and not self._log.at_end(p) for p, one in self._partitioned.items())
        if begun and not waiting:
            self._end(min(begun) - 1)
        count = sum(map(len, found.values()))
        self._decided_ns |= {p: rows[-1].decision.decided_at_ns for p, rows in found.items() if rows}
        now_ns = time.time_ns()
        since = {p: self._decided_ns.get(p, self._opened_ns) for p in self._partitioned}
        late = [now_ns - at_ns for p, at_ns in since.items() if not self._log.at_end(p)]
        self.behind_s = max(0, *late, 0) / 1e9
        self.rows += count
        return count

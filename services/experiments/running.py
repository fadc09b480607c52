"""A shadow as it goes: what was decided comes in, challengers are asked, and blocks are counted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from msgspec import Struct

from services.experiments.asking import ArmModel
from services.experiments.block_series import BlockSeries, SeriesDump
from services.experiments.call_budget import CallBudget
from services.experiments.evaluation import Evaluation, evaluate
from services.experiments.live_series import LiveDump, LiveSeries
from services.experiments.partition_shadow import ChampionChanged, DecidedTick, PartitionDump, PartitionShadow
from services.experiments.ports import DeskLog
from trading.errors import ConfigurationError, UltraThinkError
from trading.experiments.definition import ExperimentDefinition

#: Decisions that are older say nothing of how quick the desk is now.
NOW_NS = 10_000_000_000


class ShadowParts(Struct, frozen=True):
    """What a shadow is made of.

    Attributes:
        log: of what the desk decides.
        models: of each arm, the champion's too.
        shadows: of each partition.
        series: that blocks are counted in.
        live: that a canary's are counted in.
        budget: of the models' calls.
    """

    log: DeskLog
    models: Mapping[str, ArmModel]
    shadows: Mapping[int, PartitionShadow]
    series: BlockSeries
    live: LiveSeries
    budget: CallBudget


class RunDump(Struct, frozen=True, array_like=True):
    """A copy of a run between two turns.

    Attributes:
        positions: partition -> the offset of its decisions from where to go on.
        decided: partition -> the last tick whose decision was taken; negative for none.
        partitions, series, live: what it has come to.
        rows: decisions that were taken.
        changed: partitions that another champion decides, and from where on.
    """

    positions: dict[int, int]
    decided: dict[int, int]
    partitions: list[PartitionDump]
    series: SeriesDump
    live: LiveDump
    rows: int
    changed: dict[int, str]


class CheckpointRefused(ConfigurationError):
    """A copy is of another version, or of other partitions: nobody can go on from it."""


class ShadowRun:
    """One experiment, from where its books are empty.

    Attributes:
        rows: decisions that were taken.
        ended: why it cannot go on; "" while it can.
        ended_by: the error that this is.
        behind_s: wall time from the newest decision that was taken to when it was; 0 at the end of all.
    """

    def __init__(self, experiment: ExperimentDefinition, parts: ShadowParts) -> None:
        """Nothing was taken yet."""
        self._experiment, self._parts = experiment, parts
        self.rows, self.ended, self.behind_s = 0, "", 0.0
        self.ended_by: UltraThinkError | None = None
        #: Partitions that another champion decides, and from where on.
        self._changed: dict[int, str] = {}

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

    def dump(self) -> RunDump:
        """A copy, from which another run goes on as this one does."""
        parts, log = self._parts, self._parts.log
        return RunDump(
            {p: log.position(p) for p in parts.shadows}, {p: log.decided(p) for p in parts.shadows},
            [one.dump() for one in parts.shadows.values()], parts.series.dump(), parts.live.dump(), self.rows,
            dict(self._changed),
        )  # fmt: skip

    def load(self, dump: RunDump) -> None:
        """Go on from a copy; the log must begin at its positions.

        Raises CheckpointRefused where it is of another version, or of other partitions.
        """
        if {one.partition for one in dump.partitions} != set(self._parts.shadows):
            raise CheckpointRefused("the checkpoint is of other partitions: it is begun anew")
        try:
            for one in dump.partitions:
                self._parts.shadows[one.partition].load(one)
            self._parts.series.load(dump.series)
        except (ValueError, ConfigurationError) as error:
            raise CheckpointRefused(f"the checkpoint is of another version ({error}): it is begun anew") from error
        self._parts.live.load(dump.live)
        self.rows, self._changed = dump.rows, dict(dump.changed)

    def has_reached(self, places: Mapping[int, int]) -> bool:
        """Whether all that lies before these offsets of the decisions was taken."""
        return all(self._parts.log.position(partition) >= place for partition, place in places.items())

    def _turn(self, timeout_s: float) -> int:
        found = self._parts.log.poll(timeout_s)
        for partition, rows in sorted(found.items()):
            if partition not in self._changed:
                self._take(partition, rows)
        self._pass_quiet()
        self._look_for_the_end()
        begun = [one.block for one in self._parts.shadows.values() if one.block >= 0]
        waiting = any(
            one.block < 0 and not self._parts.log.at_end(partition)
            for partition, one in self._parts.shadows.items()
        )
        if begun and not waiting:
            self._parts.series.end(min(begun) - 1)
            self._parts.live.end(min(begun) - 1)
        count = sum(map(len, found.values()))
        if all(self._parts.log.at_end(partition) for partition in self._parts.shadows):
            self.behind_s = 0.0
        elif count:
            newest = max(rows[-1].published.decision.decided_at_ns for rows in found.values() if rows)
            self.behind_s = max(0.0, (time.time_ns() - newest) / 1e9)
        self.rows += count
        return count

    @property
    def series(self) -> BlockSeries:
        """The blocks so far."""
        return self._parts.series

    @property
    def live(self) -> LiveSeries:
        """Of a canary, what its arms did on the desk itself."""
        return self._parts.live

    def evaluation(self) -> Evaluation:
        """What the blocks so far say."""
        return evaluate(self._experiment, self._parts.series)

    def _take(self, partition: int, rows: Sequence[DecidedTick]) -> None:
        decisions = [row.published.decision for row in rows]
        now_ns = time.time_ns()
        self._parts.budget.observe([d for d in decisions if now_ns - d.decided_at_ns < NOW_NS])
        answers = {arm: model.answers(decisions) for arm, model in self._parts.models.items()}
        try:
            for outcome in self._parts.shadows[partition].take(rows, answers):
                self._parts.series.add(outcome)
            for live in self._parts.shadows[partition].take_live():
                self._parts.live.add(live)
        except ChampionChanged as error:
            self._changed[partition] = str(error)

    def _look_for_the_end(self) -> None:
        """Another champion ends it once what came before has been read in every partition."""
        shadows = self._parts.shadows
        first = min((shadows[partition].block for partition in self._changed), default=None)
        if first is not None and all(
            partition in self._changed or shadow.block >= first or self._parts.log.at_end(partition)
            for partition, shadow in shadows.items()
        ):
            self.ended = self._changed[min(self._changed, key=lambda partition: shadows[partition].block)]

    def _pass_quiet(self) -> None:
        """Where nothing more was decided, and others are a whole block ahead, blocks have ended all the same."""
        newest = max((one.block for one in self._parts.shadows.values()), default=-1)
        for partition, shadow in self._parts.shadows.items():
            if partition not in self._changed and self._parts.log.at_end(partition):
                for outcome in shadow.pass_to(newest - 1):
                    self._parts.series.add(outcome)
                for live in shadow.take_live():
                    self._parts.live.add(live)

"""A shadow as it goes: what was decided comes in, challengers are asked, and blocks are counted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from msgspec import Struct

from services.experiments.asking import ArmModel
from services.experiments.block_run import BlockRun, CheckpointRefused, LogPlaces
from services.experiments.block_series import BlockSeries, SeriesDump
from services.experiments.call_budget import CallBudget
from services.experiments.evaluation import ChallengerOutcome, Evaluation, evaluate, harm, shadow_guards
from services.experiments.partition_shadow import ChampionChanged, DecidedTick, PartitionDump, PartitionShadow
from services.experiments.ports import DeskLog
from trading.errors import BadRecord, ConfigurationError
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
        budget: of the models' calls.
    """

    log: DeskLog
    models: Mapping[str, ArmModel]
    shadows: Mapping[int, PartitionShadow]
    series: BlockSeries
    budget: CallBudget


class RunDump(Struct, frozen=True, array_like=True):
    """A copy of a run between two turns.

    Attributes:
        places: how far the log was taken.
        partitions, series: what it has come to.
        changed: partitions that another champion decides, and from where on.
    """

    places: LogPlaces
    partitions: list[PartitionDump]
    series: SeriesDump
    changed: dict[int, str]


class ShadowRun(BlockRun[DecidedTick, RunDump]):
    """One experiment, from where its books are empty."""

    def __init__(self, experiment: ExperimentDefinition, parts: ShadowParts) -> None:
        """Nothing was taken yet."""
        super().__init__(parts.log, parts.shadows)
        self._experiment, self._parts = experiment, parts
        #: Partitions that another champion decides, and from where on.
        self._changed: dict[int, str] = {}

    def dump(self) -> RunDump:
        """A copy, from which another run goes on as this one does."""
        partitions = [one.dump() for one in self._parts.shadows.values()]
        return RunDump(self.places, partitions, self._parts.series.dump(), dict(self._changed))

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
        except (ValueError, BadRecord, ConfigurationError) as error:
            raise CheckpointRefused(f"the checkpoint is of another version ({error}): it is begun anew") from error
        self.rows, self._changed = dump.places.rows, dict(dump.changed)

    @property
    def series(self) -> BlockSeries:
        """The blocks so far."""
        return self._parts.series

    @property
    def block_count(self) -> int:
        """How many have ended everywhere."""
        return len(self._parts.series.blocks)

    def evaluation(self) -> Evaluation:
        """What the blocks so far say."""
        return evaluate(self._experiment, self._parts.series)

    def harm(self) -> str:
        """What the shadow's guardrails say."""
        found = shadow_guards(self._experiment, self._parts.series)
        return next((why for arm, guarded in found if (why := harm(arm, guarded))), "")

    def judged(self) -> Sequence[ChallengerOutcome]:
        """Verdicts."""
        return self.evaluation().challengers

    def _take(self, partition: int, rows: Sequence[DecidedTick]) -> None:
        if partition in self._changed:
            return
        decisions = [row.decision for row in rows]
        now_ns = time.time_ns()
        self._parts.budget.observe([d for d in decisions if now_ns - d.decided_at_ns < NOW_NS])
        answers = {arm: model.answers(decisions) for arm, model in self._parts.models.items()}
        try:
            for outcome in self._parts.shadows[partition].take(rows, answers):
                self._parts.series.add(outcome)
        except ChampionChanged as error:
            self._changed[partition] = str(error)

    def _pass(self, partition: int, block: int) -> None:
        if partition not in self._changed:
            for outcome in self._parts.shadows[partition].pass_to(block):
                self._parts.series.add(outcome)

    def _end(self, through: int) -> None:
        self._parts.series.end(through)

    def _after(self) -> None:
        """Another champion ends it once what came before has been read in every partition."""
        shadows = self._parts.shadows
        first = min((shadows[partition].block for partition in self._changed), default=None)
        if first is not None and all(
            partition in self._changed or shadow.block >= first or self._parts.log.at_end(partition)
            for partition, shadow in shadows.items()
        ):
            self.ended = self._changed[min(self._changed, key=lambda partition: shadows[partition].block)]

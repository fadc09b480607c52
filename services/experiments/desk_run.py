"""A canary as it goes, by the desk's own decisions: nobody is asked, so that harm is seen at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from services.experiments.block_run import BlockRun, CheckpointRefused, LogPlaces
from services.experiments.evaluation import ChallengerOutcome
from services.experiments.live_evaluation import desk_harm
from services.experiments.live_series import LiveDump, LiveSeries
from services.experiments.partition_canary import CanaryState, PartitionCanary
from services.experiments.ports import DecisionLog
from trading.errors import BadRecord, ConfigurationError
from trading.experiments.definition import ExperimentDefinition
from trading.replay.published import Published


class DeskDump(Struct, frozen=True, array_like=True):
    """Where a run stands between two turns.

    Attributes:
        places: how far the log was taken.
        partitions, series: what it has come to.
    """

    places: LogPlaces
    partitions: list[CanaryState]
    series: LiveDump


class DeskRun(BlockRun[Published, DeskDump]):
    """One canary, from where nothing is counted."""

    def __init__(
        self,
        experiment: ExperimentDefinition,
        log: DecisionLog[Published],
        canaries: Mapping[int, PartitionCanary],
        series: LiveSeries,
    ) -> None:
        """Nothing was taken yet.

        Args:
            experiment: whose challengers are watched.
            log: of what the desk decides.
            canaries: of each partition.
            series: that blocks are counted in.
        """
        super().__init__(log, canaries)
        self._experiment, self._canaries, self._series = experiment, canaries, series

    def dump(self) -> DeskDump:
        """Where it stands."""
        return DeskDump(self.places, [one.dump() for one in self._canaries.values()], self._series.dump())

    def load(self, dump: DeskDump) -> None:
        """Go on from there; the log must begin at its positions.

        Raises CheckpointRefused where it is of another version, or of other partitions.
        """
        if {one.partition for one in dump.partitions} != set(self._canaries):
            raise CheckpointRefused("the checkpoint is of other partitions: it is begun anew")
        try:
            for one in dump.partitions:
                self._canaries[one.partition].load(one)
        except (ValueError, BadRecord, ConfigurationError) as error:
            raise CheckpointRefused(f"the checkpoint is of another version ({error}): it is begun anew") from error
        self._series.load(dump.series)
        self.rows = dump.places.rows

    @property
    def series(self) -> LiveSeries:
        """The blocks so far."""
        return self._series

    @property
    def block_count(self) -> int:
        """How many have ended everywhere."""
        return len(self._series.blocks)

    def harm(self) -> str:
        """What the desk's guardrails, and its split, say."""
        return desk_harm(self._experiment, self._series)

    def judged(self) -> Sequence[ChallengerOutcome]:
        """Nothing: verdicts are the shadow's, whose outcomes are paired."""
        return ()

    def _take(self, partition: int, rows: Sequence[Published]) -> None:
        for outcome in self._canaries[partition].take([row.decision for row in rows]):
            self._series.add(outcome)

    def _pass(self, partition: int, block: int) -> None:
        for outcome in self._canaries[partition].pass_to(block):
            self._series.add(outcome)

    def _end(self, through: int) -> None:
        self._series.end(through)

"""What Prometheus is told of experiments."""

from __future__ import annotations

import math

from prometheus_client import Counter, Gauge

from connectors.listening import own_registry
from services.experiments.evaluation import ChallengerOutcome


class ExperimentMetrics:
    """Of every experiment that is watched."""

    def __init__(self) -> None:
        """Nothing listens yet."""
        self.registry = registry = own_registry()
        self._watched = Gauge(
            "experiments_watched", "1 while a running experiment is watched, 0 while it is not",
            ["experiment", "where"], registry=registry,
        )  # fmt: skip
        self._share = Gauge(
            "experiments_share", "Of the units, that challengers have", ["experiment"], registry=registry
        )
        self._blocks = Gauge(
            "experiments_blocks", "Blocks that have ended everywhere", ["experiment", "where"], registry=registry
        )
        self._harm = Gauge(
            "experiments_harm", "1 where a challenger does harm", ["experiment", "where"], registry=registry
        )
        self._stops = Counter("experiments_stops", "Stops by its watcher", ["experiment", "why"], registry=registry)
        self._behind = Gauge(
            "experiments_behind_seconds",
            "From a decision to its being counted",
            ["experiment", "where"],
            registry=registry,
        )
        self._unkept = Gauge(
            "experiments_checkpoint_failed", "1 where the last checkpoint could not be kept",
            ["experiment", "where"], registry=registry,
        )  # fmt: skip
        self._difference = Gauge(
            "experiments_difference_bps", "Challenger's net basis points a block less the champion's",
            ["experiment", "arm", "bound"], registry=registry,
        )  # fmt: skip

    @property
    def _gauges(self) -> tuple[Gauge, ...]:
        return (
            self._watched, self._share, self._blocks, self._harm, self._difference, self._behind, self._unkept
        )  # fmt: skip

    def runs(self, experiment: str, share: float) -> None:
        """It runs, with so much of the units its challengers'."""
        self._share.labels(experiment).set(share)
        # What is counted for the first time grows from 0, or nobody would see it grow.
        for why in ("harm", "unwatched"):
            self._stops.labels(experiment, why)

    def watched(self, experiment: str, where: str, *, watched: bool) -> None:
        """Whether somebody watches it from there."""
        self._watched.labels(experiment, where).set(watched)

    def counted(self, experiment: str, where: str, blocks: int, *, harmed: bool) -> None:
        """Blocks that have ended, and whether they show harm."""
        self._blocks.labels(experiment, where).set(blocks)
        self._harm.labels(experiment, where).set(harmed)

    def judged(self, experiment: str, found: ChallengerOutcome) -> None:
        """What is known of a challenger."""
        told = {"lower": found.interval.lower, "mean": found.interval.mean, "upper": found.interval.upper}
        for bound, value in told.items():
            if math.isfinite(value):
                self._difference.labels(experiment, found.arm, bound).set(value)

    def stopped(self, experiment: str, why: str) -> None:
        """Its watcher has put the champion back: of harm, or since it cannot be watched."""
        self._stops.labels(experiment, why).inc()

    def behind(self, experiment: str, where: str, seconds: float) -> None:
        """How long ago what was taken last was decided."""
        self._behind.labels(experiment, where).set(seconds)

    def kept(self, experiment: str, where: str, *, kept: bool) -> None:
        """Whether its last checkpoint could be kept."""
        self._unkept.labels(experiment, where).set(not kept)

    def forget(self, experiment: str, where: str) -> None:
        """It runs no more: nobody need watch it from there."""
        for gauge in self._gauges:
            for labels in [one.labels for family in gauge.collect() for one in family.samples]:
                if labels["experiment"] == experiment and labels.get("where", where) == where:
                    gauge.remove(*labels.values())

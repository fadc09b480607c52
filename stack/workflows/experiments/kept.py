"""What is known of an experiment of the desk: its commands, and what its watcher has counted so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from services.experiments.block_series import BlockSeries
from services.experiments.checkpoints import DESK, SHADOW, read_newest
from services.experiments.evaluation import Evaluation, evaluate
from services.experiments.live_evaluation import LiveChallenger, evaluate_live
from services.experiments.live_series import LiveSeries
from trading.errors import ConfigurationError
from trading.experiments.register import Experiment, ExperimentState, start_of


class KnownExperiment(Struct, frozen=True):
    """What is known.

    Attributes:
        experiment: as it stands.
        evaluation: the shadow's, paired tick by tick.
        live: what its challengers did on the desk itself; empty of a shadow.
        decisions: that were taken.
        is_current: whether this was counted since it was started last.
        behind_s: wall time from what the shadow has kept to the desk's newest decision; 0 where nobody asked, and
            of what does not run; None where that is not known.
    """

    experiment: Experiment
    evaluation: Evaluation
    live: list[LiveChallenger]
    decisions: int
    is_current: bool = True
    behind_s: float | None = 0.0


class CountedBlocks(NamedTuple):
    """What an evaluation rests on.

    Attributes:
        shadow: paired, on virtual books.
        desk: of a canary's own rows; None where its challengers decide nothing.
    """

    shadow: BlockSeries
    desk: LiveSeries | None = None


def known(
    experiment: Experiment, folder: Path, behind_s: Callable[[Mapping[int, int]], float | None] = lambda _: 0.0
) -> tuple[KnownExperiment, CountedBlocks]:
    """What its watcher has kept, and the blocks that it rests on.

    Args:
        experiment: as it stands.
        folder: of the experiments' process.
        behind_s: how far the offsets of its decisions lie behind the desk, by partition.

    Raises:
        ConfigurationError: nothing is kept there.
    """
    definition = experiment.definition
    found = read_newest(folder, definition, SHADOW)
    if found is None:
        raise ConfigurationError(
            f"nothing is kept of {definition.name} in {folder}: `ultrathink experiment run` watches what was "
            "started, and ULTRATHINK_EXPERIMENTS_FOLDER says where it keeps what it has counted"
        )
    series, live = BlockSeries(definition.arms, 1), LiveSeries(definition.arms, 1)
    series.load(found.run.series)
    desk = read_newest(folder, definition, DESK)
    is_canary = definition.kind == "canary"
    # Of another start nothing is told beside it.
    # Who had no share yet has done nothing on the desk.
    is_whole = not is_canary or not experiment.steps or (desk is not None and desk.started == found.started)
    if desk is not None and desk.started == found.started:
        live.load(desk.run.series)
    runs = experiment.state is ExperimentState.RUNNING
    told = evaluate_live(definition, live, series) if is_canary else []
    return KnownExperiment(
        experiment, evaluate(definition, series), told, found.run.places.rows,
        is_whole and found.started == start_of(experiment), behind_s(found.run.places.positions) if runs else 0.0,
    ), CountedBlocks(series, live if is_canary else None)  # fmt: skip

"""One experiment in a process of its own: `python -m trainers.trials.worker SPEC.json`.

It prints a JSON line for each fold that it has finished, and one for its result. Its memory has a ceiling that it
keeps itself; where even that is overrun, the kernel's kill ends this process and no other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from trading.errors import UltraThinkError
from trainers import memory_budget
from trainers.data import leakage, splits
from trainers.data.dataset import Dataset, open_dataset
from trainers.evaluation import backtest, metrics
from trainers.training.fold import Fold, train_fold
from trainers.training.loop import DoesNotFit
from trainers.walk_forward import TrainSettings, usable

BAD_INPUT, NO_MEMORY = 2, 3


class Spec(Struct, frozen=True, forbid_unknown_fields=True):
    """An experiment.

    Attributes:
        name: of it.
        dataset: folder.
        settings: of the training.
        hold_out: the last share of the time is not touched: it judges what a search has chosen.
        memory_bytes: ceiling; none where it is None.
        threads: of torch.
    """

    name: str
    dataset: str
    settings: TrainSettings = TrainSettings()
    hold_out: float = 0.0
    memory_bytes: int | None = None
    threads: int = 1


class FoldResult(Struct, frozen=True):
    """Of one fold's test rows, net of costs: t-statistic and mean (basis points) of the returns by period."""

    fold: int
    t_statistic: float
    mean_bps: float


class TrialResult(Struct, frozen=True):
    """Of an experiment: the mean of its folds' t-statistics, the folds, and the memory that it took at most."""

    value: float
    folds: list[FoldResult]
    peak_bytes: int


class Line(Struct, frozen=True, omit_defaults=True):
    """What a worker prints."""

    fold: FoldResult | None = None
    result: TrialResult | None = None


def until(data: Dataset, share: float) -> Dataset:
    """The first part of the time, as views; labels that reach beyond it are no labels."""
    if share >= 1.0:
        return data
    end = int(np.quantile(data.time_ns, share, method="nearest"))
    count = int(np.searchsorted(data.time_ns, end))  # rows are in order of time
    labels = data.labels
    fields = {name: getattr(labels, name)[:count] for name in labels.__struct_fields__}
    fields["valid"] = fields["valid"] & (fields["end_ns"] < end)
    names = ("features", "symbols", "time_ns", "quote_time_ns", "market", "volume")
    return replace(data, labels=replace(labels, **fields), **{name: getattr(data, name)[:count] for name in names})


def run(spec: Spec, tell: Callable[[Line], None]) -> TrialResult:
    """Train and test every fold.

    Args:
        spec: of the experiment.
        tell: called with each `Line`.

    Raises:
        ConfigurationError, DoesNotFit: see `train_all`.
    """
    memory_budget.be_deterministic(spec.settings.fold.seed, spec.threads)
    data = until(open_dataset(Path(spec.dataset)), 1.0 - spec.hold_out)
    leakage.check(data)
    settings, found, before = spec.settings, [], None
    embargo = int(settings.embargo * data.manifest.horizon_ns)
    walks = splits.walk_forward(data.time_ns, data.labels.end_ns, settings.folds, embargo, settings.first_test)
    for k, split in enumerate(walks, 1):
        fold = train_fold(f"fold {k}", data, usable(split, data), settings.fold, before, None, lambda _: None)
        before = fold.teacher
        found.append(score(data, fold, k, settings))
        tell(Line(fold=found[-1]))
    value = float(np.mean([one.t_statistic for one in found]))
    return TrialResult(value, found, memory_budget.peak_bytes())


def score(data: Dataset, fold: Fold, number: int, settings: TrainSettings) -> FoldResult:
    """The meta-controller's net return on a fold's test rows."""
    path = backtest.run(data, fold.split.test, fold.answers.target, settings.fold.costs)
    figures = metrics.figures(path, data)
    return FoldResult(number, figures.t_statistic, figures.mean_bps)


def main() -> int:
    """Run the experiment that the file names."""
    try:
        spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Spec)
        if spec.memory_bytes is not None:
            memory_budget.limit_memory(spec.memory_bytes)
        result = run(spec, say)
    except (DoesNotFit, MemoryError) as error:
        sys.stderr.write(f"{error or 'memory ran out'}\n")
        return NO_MEMORY
    except RuntimeError as error:
        if not memory_budget.is_out_of_memory(error):
            raise
        sys.stderr.write(f"memory ran out: {str(error)[:200]}\n")
        return NO_MEMORY
    except (UltraThinkError, msgspec.DecodeError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    say(Line(result=result))
    return 0


def say(line: Line) -> None:
    """A line on stdout, at once."""
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

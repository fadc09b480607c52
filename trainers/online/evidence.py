"""Whether it pays: the same nights traded by a champion that is left as it is, one that is updated each night, one
that is trained anew each night, and by nobody; by the gateway's own code, costs counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from trading.arrays import BoolArray, FloatArray, Int64Array
from trading.errors import ConfigurationError
from trainers.data.dataset import Dataset
from trainers.data.splits import Split
from trainers.evaluation import backtest
from trainers.memory_budget import be_deterministic
from trainers.online.bounds import UpdateSettings
from trainers.online.networks import Networks
from trainers.online.update import Refused, update
from trainers.training.fold import Fold, FoldSettings, train_fold
from trainers.training.loop import TrainingStep

WAYS = ("frozen", "updated", "retrained")
#: Nights of a source that are traded; the blocks before them teach the champion that all begin with.
NIGHTS, TAUGHT = 30, 8
#: An update looks back so many nights.
LOOKED_BACK = 8
STEP_FORWARD = "a step forward"


class Night(Struct, frozen=True):
    """One that was traded.

    Attributes:
        number: from 1.
        rows: that were traded.
        net: way -> sum of net returns, as a share of the capital.
        decided: what became of the update before it: a step forward, or why not.
    """

    number: int
    rows: int
    net: dict[str, float]
    decided: str


class Evidence(Struct, frozen=True):
    """Of one source.

    Attributes:
        source: of the ticks.
        nights: that were traded.
        time_ns: int64 [n], of the rows that were traded.
        net: way -> float64 [n], net returns.
    """

    source: str
    nights: list[Night]
    time_ns: Int64Array
    net: dict[str, FloatArray]

    def total(self, way: str) -> float:
        """Net return of all nights; nothing earns nothing."""
        return float(self.net[way].sum())

    def against(self, way: str, other: str) -> tuple[float, float]:
        """Mean difference a night, and its t-statistic over the nights."""
        apart = np.array([night.net[way] - night.net[other] for night in self.nights])
        deviation = float(apart.std(ddof=1)) if len(apart) > 1 else 0.0
        return float(apart.mean()), float(apart.mean()) / deviation * len(apart) ** 0.5 if deviation > 0 else 0.0

    @property
    def accepted(self) -> int:
        """Nights whose update was taken."""
        return sum(night.decided == STEP_FORWARD for night in self.nights)

    @property
    def pays(self) -> bool:
        """Whether updating earned more than leaving the champion alone, by more than chance, and than nothing."""
        return self.against("updated", "frozen")[1] > 2.0 and self.total("updated") > 0.0


def over_nights(
    data: Dataset,
    settings: UpdateSettings,
    taught: FoldSettings,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Evidence:
    """Trade each night by each way; what is learned before a night was ripe when it began.

    Args:
        data: rows in order of time.
        settings: of updates.
        taught: of trainings.
        progress: called with what is done.

    Raises:
        ConfigurationError: the source is too short.
    """
    nights = np.array_split(np.arange(len(data)), TAUGHT + NIGHTS)
    valid = data.labels.valid
    ways: dict[str, Networks] = {}
    targets: dict[str, list[FloatArray]] = {way: [] for way in WAYS}
    rows_of: list[Int64Array] = []
    decided: list[str] = []
    for k in range(TAUGHT, TAUGHT + NIGHTS):
        progress(f"night {k + 1 - TAUGHT}", k - TAUGHT, NIGHTS)
        tonight = nights[k][valid[nights[k]]]
        if not len(tonight):
            raise ConfigurationError(f"night {k + 1} of {data.manifest.named} has no row with a label")
        known: BoolArray = valid & (data.labels.end_ns < data.time_ns[tonight[0]])
        retrained = trained(data, np.flatnonzero(known), tonight, taught, ways.get("retrained"))
        if not ways:
            ways = dict.fromkeys(WAYS, retrained)
            decided.append("the champion begins")
        else:
            ways["retrained"] = retrained
            recent = known & (np.arange(len(data)) >= nights[k - LOOKED_BACK][0])
            ways["updated"], why = updated(ways["updated"], data, recent, settings)
            decided.append(why)
        rows_of.append(tonight)
        for way, networks in ways.items():
            targets[way].append(networks.ask(data.features, tonight).target)
    return traded(data, rows_of, targets, decided, settings)


def trained(
    data: Dataset, known: Int64Array, tonight: Int64Array, settings: FoldSettings, before: Networks | None
) -> Networks:
    """Anew, from all that is known."""
    be_deterministic(settings.seed)
    split = Split(known, tonight, int(data.time_ns[tonight[0]]))

    def quiet(_: TrainingStep) -> None:
        """Nobody looks at the steps of one night."""

    fold: Fold = train_fold(
        "night", data, split, settings, None if before is None else before.teacher, None, quiet
    )  # fmt: skip
    return Networks(fold.regime, fold.signals, fold.meta, fold.teacher)


def updated(champion: Networks, data: Dataset, known: BoolArray, settings: UpdateSettings) -> tuple[Networks, str]:
    """As a desk would: a step that is none forward on the newest ripe rows is not taken."""
    seen = replace(data, labels=replace(data.labels, valid=known))
    try:
        found = update(champion, seen, settings)
    except Refused as error:
        return champion, f"refused: {', '.join(sorted({fault.name for fault in error.faults}))}"
    except ConfigurationError:
        # The settings were checked before.
        return champion, "too few ripe rows"
    return (found.networks, STEP_FORWARD) if found.gain > 0.0 else (champion, "no step forward")


def traded(
    data: Dataset,
    rows_of: Sequence[Int64Array],
    targets: dict[str, list[FloatArray]],
    decided: Sequence[str],
    settings: UpdateSettings,
) -> Evidence:
    """Every way through the gateway's own orders and rules."""
    rows = np.concatenate(rows_of)
    net = {way: backtest.run(data, rows, np.concatenate(told), settings.costs).net for way, told in targets.items()}
    ends = np.cumsum([len(one) for one in rows_of])
    nights = [
        Night(
            k + 1,
            len(rows_of[k]),
            {way: float(values[end - len(rows_of[k]) : end].sum()) for way, values in net.items()},
            decided[k],
        )
        for k, end in enumerate(ends.tolist())
    ]
    return Evidence(data.manifest.named, nights, data.time_ns[rows], net)

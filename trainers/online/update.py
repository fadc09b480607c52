"""A small, bounded step from the champion, by what was lived since.

The champion's three networks learn on, from the newest ripe rows and from older ones that are replayed (Rolnick et
al. 2019, Experience Replay for Continual Learning), with a penalty on the squared distance from the champion's
weights (L2-SP: Li et al. 2018) and a bound on it: whatever the rows say, a step goes no further. The newest ripe
rows of all are learned from by nobody: they say whether the step was one forward.

An update is a function of the champion's weights, the rows and the seed; on one machine, build and number of
threads it gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor, nn

from trading.arrays import BoolArray, FloatArray, Int64Array
from trading.errors import ConfigurationError
from trainers.data.dataset import Dataset
from trainers.memory_budget import be_deterministic
from trainers.models.objectives import (
    WINDOW,
    MetaSettings,
    TrainingSet,
    consecutive,
    meta_loss,
    regime_loss,
    signal_loss,
)
from trainers.models.regime_teacher import observe
from trainers.online.bounds import UpdateSettings
from trainers.online.networks import Networks, all_finite, distance
from trainers.online.screening import BarrierShape, Batch, Fault, repeated, screen, screen_alone
from trainers.online.worth import worth
from trainers.training.fold import Answers, answers_for, gather
from trainers.training.loop import TrainingStep, device

LEAST_LEARNED, LEAST_HELD = 1_000, 500
#: The objectives are the training's own.
META = MetaSettings()


class Refused(ConfigurationError):
    """Rows are not learned from; `faults` says why."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"{one.name}: {one.sentence}" for one in faults))
        self.faults = faults


class Parts(Struct, frozen=True):
    """Rows by time, int64 each: what is replayed, what is learned from, and what judges. No label reaches from one
    into the next.
    """

    replayed: Int64Array
    fresh: Int64Array
    held: Int64Array


class Updated(Struct, frozen=True):
    """What an update came to.

    Attributes:
        networks: after it.
        champion: sha256 of the weights that it began with, and `sha256` of those that it came to.
        parts: the rows.
        distances: model -> how far it went, as a share of its length.
        losses: model -> mean loss of the first and of the last tenth of its steps.
        before, after: float64 [held], utility of the held rows.
        answers: of the held rows.
        filtered: float64 [n, 3], what the teacher says of every row.
    """

    networks: Networks
    champion: str
    sha256: str
    parts: Parts
    distances: dict[str, float]
    losses: dict[str, tuple[float, float]]
    before: FloatArray
    after: FloatArray
    answers: Answers
    filtered: FloatArray

    @property
    def gain(self) -> float:
        """Mean utility a held row, after less before."""
        return float((self.after - self.before).mean())

    @property
    def sentence(self) -> str:
        """For a person."""
        far = max(self.distances.values())
        return (
            f"utility of {len(self.after):,} held rows {self.before.mean():+.4f} before, {self.after.mean():+.4f} "
            f"after; the weights went {far:.1%} of their length"
        )


def divide(data: Dataset, settings: UpdateSettings) -> Parts:
    """Ripe rows by time. Raises ConfigurationError where there are too few of a part."""
    rows = np.flatnonzero(data.labels.valid)
    if not len(rows):
        raise ConfigurationError("no label is ripe yet: nothing can be learned from")
    time_ns, end_ns = data.time_ns[rows], data.labels.end_ns[rows]
    fresh_from, held_from = (
        int(np.quantile(time_ns, share, method="nearest"))
        for share in (1.0 - settings.fresh - settings.held, 1.0 - settings.held)
    )
    replayed: BoolArray = end_ns < fresh_from
    fresh = (time_ns >= fresh_from) & (end_ns < held_from)
    parts = Parts(rows[replayed], rows[fresh], rows[time_ns >= held_from])
    for name, least in (("replayed", LEAST_LEARNED), ("fresh", LEAST_LEARNED), ("held", LEAST_HELD)):
        count = len(getattr(parts, name))
        if count < least:
            raise ConfigurationError(
                f"{count:,} rows are {name}, and {least:,} are the fewest: wait for more ripe labels, or look back "
                "further"
            )
    for name in ("replayed", "fresh"):
        if not len(consecutive(data.symbols[getattr(parts, name)])):
            raise ConfigurationError(
                f"no symbol has {WINDOW} rows that are {name}: look back further, or at fewer symbols"
            )
    return parts


def update(
    champion: Networks,
    data: Dataset,
    settings: UpdateSettings,
    progress: Callable[[TrainingStep], None] = lambda _: None,
) -> Updated:
    """One update.

    Args:
        champion: what serves.
        data: lived rows, with ripe labels.
        settings: how far it may go.
        progress: called after each step.

    Raises:
        Refused: the rows are broken, planted or told twice.
        ConfigurationError: they are too few, or a setting is none of a small step.
    """
    settings.check()
    parts = divide(data, settings)
    refuse_broken(data, parts)
    be_deterministic(settings.seed)
    where = device()
    filtered = champion.teacher.filtered(observe(data), data.symbols)
    fresh, replayed = (
        gather(data, rows, filtered, settings.costs, where) for rows in (parts.fresh, parts.replayed)
    )
    networks = champion.copied()
    for module in networks.modules.values():
        module.to(where).requires_grad_(requires_grad=True)
    learning = Learning(networks, fresh, replayed, settings, progress)
    learning.run()
    for module in networks.modules.values():
        module.cpu().eval()
    answers = networks.ask(data.features, parts.held)
    before = champion.ask(data.features, parts.held)
    return Updated(
        networks, champion.sha256(), networks.sha256(), parts, learning.distances, learning.losses,
        worth(data, parts.held, before.target, settings.costs).utility,
        worth(data, parts.held, answers.target, settings.costs).utility, answers, filtered,
    )  # fmt: skip


def refuse_broken(data: Dataset, parts: Parts) -> None:
    """Raise Refused where rows that would be learned from, or would judge, are broken, planted or told twice."""
    shape = BarrierShape(data.manifest.up, data.manifest.down)
    reference = Batch.of(data, parts.replayed)
    # What is replayed is learned from too, and is what the others are judged by.
    if faults := screen_alone(reference, shape):
        raise Refused(faults)
    for rows in (parts.fresh, parts.held):
        if faults := screen(Batch.of(data, rows), reference, shape):
            raise Refused(faults)
    both = Batch.of(data, np.concatenate([parts.fresh, parts.held]))
    if faults := repeated(both):
        raise Refused(faults)


class Learning:
    """The three networks' steps, one behind another.

    Attributes:
        distances, losses: see `Updated`.
    """

    def __init__(
        self,
        networks: Networks,
        fresh: TrainingSet,
        replayed: TrainingSet,
        settings: UpdateSettings,
        progress: Callable[[TrainingStep], None],
    ) -> None:
        self._networks, self._sets = networks, (fresh, replayed)
        self._settings, self._progress = settings, progress
        self.distances: dict[str, float] = {}
        self.losses: dict[str, tuple[float, float]] = {}

    def run(self) -> None:
        """All of them."""
        networks, smoothness = self._networks, META.smoothness
        self._learn("regime_detection", [regime_loss(networks.regime, one, smoothness) for one in self._sets])
        self._learn("strategy_signals", [signal_loss(networks.signals, one) for one in self._sets], windows=False)
        told = [answers_for(networks.regime, networks.signals, one) for one in self._sets]
        losses = [
            meta_loss(networks.meta, one, *answers, META) for one, answers in zip(self._sets, told, strict=True)
        ]
        self._learn("meta_controller", losses)

    def _learn(self, name: str, losses: list[Callable[[Tensor], Tensor]], *, windows: bool = True) -> None:
        settings, module = self._settings, self._networks.modules[name]
        origin = {key: value.detach().clone() for key, value in module.named_parameters()}
        length = sum(float(one.double().square().sum()) for one in origin.values())
        generator = torch.Generator().manual_seed(settings.seed)
        counts = [len(one.windows) if windows else len(one) for one in self._sets]
        a_step = max(2, settings.batch_rows // (WINDOW if windows else 1))
        old = min(a_step - 1, max(1, round(settings.replayed * a_step)))
        shares = (1.0 - settings.replayed, settings.replayed)
        optimiser = torch.optim.Adam(module.parameters(), lr=settings.learning_rate, foreach=False)
        module.train()
        seen = []
        for step in range(settings.steps):
            optimiser.zero_grad(set_to_none=True)
            total = torch.zeros(())
            for loss, count, size, share in zip(losses, counts, (a_step - old, old), shares, strict=True):
                rows = torch.randint(count, (size,), generator=generator)
                total = total + share * loss(rows)
            apart = sum((value - origin[key]).square().sum() for key, value in module.named_parameters())
            penalised = total + settings.distance_penalty * apart / max(length, 1e-12)
            penalised.backward()
            nn.utils.clip_grad_norm_(module.parameters(), settings.most_gradient, foreach=False)
            optimiser.step()
            hold_near(module, origin, settings.most_distance)
            seen.append(float(total.detach()))
            self._progress(TrainingStep(f"update {name}", step + 1, settings.steps, seen[-1]))
        module.eval()
        if not all_finite(module):
            raise Refused([Fault("not finite", 0, f"learning from these rows made weights of {name} no numbers")])
        tenth = max(1, len(seen) // 10)
        self.distances[name] = distance(module, origin)
        self.losses[name] = (float(np.mean(seen[:tenth])), float(np.mean(seen[-tenth:])))


def hold_near(module: nn.Module, origin: dict[str, Tensor], most: float) -> None:
    """Put a module that went too far back onto the bound, on the straight way to where it came from."""
    far = distance(module, origin)
    if far <= most:
        return
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.copy_(origin[name] + (value - origin[name]) * (most / far * (1.0 - 1e-6)))

"""The three models of a pipeline as networks that can be learned with, and told apart by their bytes."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from msgspec import Struct
from torch import Tensor, nn

from trading.arrays import Float32Array, Int64Array
from trading.errors import ConfigurationError
from trading.features.definitions import FEATURES
from trading.models.signature import META_CONTROLLER, REGIME_DETECTION, STRATEGY_SIGNALS
from trainers.models.nets import MetaController, RegimeDetection, StrategySignals
from trainers.models.regime_teacher import Teacher
from trainers.training.fold import Answers, ask

#: Any two rows: a network standardises by what is loaded, not by these.
_SAMPLE = torch.arange(2.0).unsqueeze(1).expand(2, len(FEATURES))


class Networks(Struct, frozen=True):
    """A pipeline's networks, on the CPU, and the teacher whose regimes they know."""

    regime: RegimeDetection
    signals: StrategySignals
    meta: MetaController
    teacher: Teacher

    @property
    def modules(self) -> dict[str, nn.Module]:
        """By the names of their models, in the pipeline's order."""
        return {
            REGIME_DETECTION.name: self.regime,
            STRATEGY_SIGNALS.name: self.signals,
            META_CONTROLLER.name: self.meta,
        }

    def copied(self) -> Networks:
        """The same, to be learned with."""
        return Networks(
            copy.deepcopy(self.regime), copy.deepcopy(self.signals), copy.deepcopy(self.meta), self.teacher
        )  # fmt: skip

    def ask(self, features: Float32Array, rows: Int64Array) -> Answers:
        """What they say of rows of features [n, 32], as the ensemble would."""
        return ask(self.regime, self.signals, self.meta, features, rows)

    def sha256(self) -> str:
        """Of every weight and constant, in order."""
        whole = hashlib.sha256()
        for name, module in self.modules.items():
            for key, value in sorted(module.state_dict().items()):
                told = f"{name} {key} {value.dtype} {tuple(value.shape)}\n"
                whole.update(told.encode() + value.contiguous().numpy().tobytes())
        return whole.hexdigest()


def from_states(states: Mapping[str, Mapping[str, Tensor]], teacher: Teacher) -> Networks:
    """The networks of these weights, by model.

    Raises:
        ConfigurationError: they are of other networks than this version's, or not finite.
    """
    made: dict[str, Any] = {
        REGIME_DETECTION.name: RegimeDetection(_SAMPLE), STRATEGY_SIGNALS.name: StrategySignals(_SAMPLE),
        META_CONTROLLER.name: MetaController(_SAMPLE),
    }  # fmt: skip
    for name, module in made.items():
        if name not in states:
            raise ConfigurationError(f"{name} is missing: a pipeline has {', '.join(made)}")
        try:
            module.load_state_dict(dict(states[name]))
        except RuntimeError as error:
            said = " ".join(str(error).split())[:300]
            raise ConfigurationError(f"{name} is of another network than this version trains: {said}") from None
        if not all_finite(module):
            raise ConfigurationError(f"{name} has weights that are not finite")
        module.eval()
    regime, signals, meta = made.values()
    return Networks(regime, signals, meta, teacher)


def all_finite(module: nn.Module) -> bool:
    """Whether every weight is; a standardisation may divide by infinity, which makes a constant column 0."""
    return all(bool(torch.isfinite(one).all()) for one in module.parameters())


def distance(module: nn.Module, origin: Mapping[str, Tensor]) -> float:
    """How far a module's weights lie from these, as a share of their length: |w - o| / |o|."""
    apart = whole = 0.0
    for name, value in module.named_parameters():
        before = origin[name]
        apart += float((value.detach() - before).double().square().sum())
        whole += float(before.double().square().sum())
    return math.sqrt(apart) / max(math.sqrt(whole), 1e-12)

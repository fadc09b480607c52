"""Mini-batch training, the same on CPU and CUDA, repeatable from its seed, resumable after a kill.

The order of the rows is a function of seed and epoch, so a resumed training takes the same steps; the networks
draw nothing at random once they are made. A batch that does not fit in memory is halved, and its gradients are
added up: the same step, in parts.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from msgspec import Struct
from torch import Tensor, nn

from trading.errors import UltraThinkError
from trainers.memory_budget import is_out_of_memory
from trainers.training.checkpoint import Checkpoints

#: The time between two checkpoints within an epoch.
CHECKPOINT_S = 10.0
#: The share of the steps in which the learning rate rises: no training is given up before.
WARM_UP = 0.3
#: Compiling costs about a minute: it pays for long trainings on a GPU, never for these networks on a CPU.
COMPILE_STEPS = 20_000


class DoesNotFit(UltraThinkError):
    """Not even one row fits in memory."""


class LoopSettings(Struct, frozen=True):
    """Adam with a one-cycle learning rate.

    Attributes:
        epochs: at most, and more where they are fewer than `min_steps` steps; `patience` of them (a fifth
            of all, where that is more) without a better validation loss end the training.
        batch_size: rows (or windows) a step.
        learning_rate: the highest.
        weight_decay: L2.
        seed: of the order of rows.
        precision: fp32, or bf16 (autocast; on a GPU only).
        compiled: whether torch.compile is used: auto (long trainings on a GPU), on, off.
    """

    epochs: int = 4
    batch_size: int = 1024
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    seed: int = 0
    patience: int = 2
    min_steps: int = 200
    precision: str = "fp32"
    compiled: str = "auto"


class Task(Struct, frozen=True):
    """What is minimised.

    Attributes:
        name: of the stage.
        module: trained in place.
        rows: of the training set.
        loss: mean loss over the rows of these indices, of the training set.
        validation: mean loss over the validation set, without gradients; None where there is none.
    """

    name: str
    module: nn.Module
    rows: int
    loss: Callable[[Tensor], Tensor]
    validation: Callable[[], float] | None = None


class TrainingStep(Struct, frozen=True):
    """How far a stage is, for a progress bar."""

    stage: str
    done: int
    total: int
    loss: float


class Fitted(Struct):
    """What a training came to: mean losses an epoch, the epoch that was kept, and how batches were cut to fit."""

    losses: list[float]
    validation: list[float]
    best_epoch: int
    parts: int


class LoopState(Struct):
    """Where a training stands: everything that a resumed one needs."""

    epoch: int = 0
    step: int = 0
    total: float = 0.0
    parts: int = 1
    losses: list[float] = []
    validation: list[float] = []
    best: float = math.inf
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = {}


def device() -> torch.device:
    """CUDA where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit(
    task: Task,
    settings: LoopSettings,
    checkpoints: Checkpoints | None = None,
    progress: Callable[[TrainingStep], None] = lambda _: None,
) -> Fitted:
    """Minimise a task's loss over shuffled mini-batches; the weights of the best epoch are kept.

    Args:
        task: what is trained.
        settings: of the loop.
        checkpoints: where progress is kept, and taken up again.
        progress: called after each step.

    Raises:
        DoesNotFit: a batch of one row exceeds the memory.
    """
    return _Loop(task, settings, checkpoints, progress).run()


class _Loop:
    def __init__(
        self,
        task: Task,
        settings: LoopSettings,
        checkpoints: Checkpoints | None,
        progress: Callable[[TrainingStep], None],
    ) -> None:
        self._task, self._settings, self._checkpoints, self._progress = task, settings, checkpoints, progress
        self._steps = max(1, math.ceil(task.rows / settings.batch_size))
        self._epochs = max(settings.epochs, math.ceil(settings.min_steps / self._steps))
        self._state = LoopState(losses=[], validation=[], best_weights={})
        self._optimiser = torch.optim.Adam(
            task.module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser,
            max_lr=settings.learning_rate,
            total_steps=self._steps * self._epochs + 1,
            pct_start=WARM_UP,
        )
        self._loss = compiled(task.loss, settings, self._steps)
        self._saved_at = time.monotonic()

    def run(self) -> Fitted:
        """All epochs, from where the last checkpoint stands."""
        self._resume()
        state, module = self._state, self._task.module
        module.train()
        while state.epoch < self._epochs and not self._stale():
            self._epoch()
        module.eval()
        if state.best_weights:
            module.load_state_dict(state.best_weights)
        return Fitted(state.losses, state.validation, state.best_epoch, state.parts)

    def _epoch(self) -> None:
        state, settings = self._state, self._settings
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + state.epoch)
        order = torch.randperm(self._task.rows, generator=generator)
        for step in range(state.step, self._steps):
            rows = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            state.total += self._step(rows)
            state.step = step + 1
            done = state.epoch * self._steps + state.step
            mean = state.total / state.step
            self._progress(TrainingStep(self._task.name, done, self._steps * self._epochs, mean))
            if time.monotonic() > self._saved_at + CHECKPOINT_S:
                self._save()
        state.losses.append(state.total / self._steps)
        self._validate()
        state.epoch, state.step, state.total = state.epoch + 1, 0, 0.0
        self._save()

    def _step(self, rows: Tensor) -> float:
        """One step; in more and smaller parts where memory runs out."""
        while True:
            try:
                return self._accumulate(rows)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if self._state.parts >= len(rows):
                    raise DoesNotFit(
                        f"{self._task.name}: not even a batch of one fits: give a larger budget (--memory)"
                    ) from error
                self._state.parts *= 2
            # Outside the handler: the error's traceback holds the tensors that did not fit.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _accumulate(self, rows: Tensor) -> float:
        self._optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for part in rows.chunk(self._state.parts):
            with self._precision():
                loss = self._loss(part) * (len(part) / len(rows))
            loss.backward()
            total += float(loss.detach())
        self._optimiser.step()
        self._schedule.step()
        return total

    def _precision(self) -> AbstractContextManager[Any]:
        if self._settings.precision == "bf16" and torch.cuda.is_available():
            return torch.autocast("cuda", torch.bfloat16)
        return nullcontext()

    def _validate(self) -> None:
        state, module = self._state, self._task.module
        if self._task.validation is None:
            state.best_epoch = state.epoch
            return
        module.eval()
        with torch.no_grad():
            loss = self._task.validation()
        module.train()
        state.validation.append(loss)
        if loss < state.best:
            state.best, state.best_epoch = loss, state.epoch
            state.best_weights = copy.deepcopy(module.state_dict())

    def _stale(self) -> bool:
        state = self._state
        if not state.validation or state.epoch <= WARM_UP * self._epochs:
            return False
        patience = max(self._settings.patience, self._epochs // 5)
        return state.epoch - 1 - state.best_epoch >= patience

    def _save(self) -> None:
        if self._checkpoints is None:
            return
        state = self._state
        self._checkpoints.save(
            f"{self._task.name}.progress",
            {
                "state": {name: getattr(state, name) for name in LoopState.__struct_fields__},
                "module": self._task.module.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "schedule": {k: v for k, v in self._schedule.state_dict().items() if not callable(v)},
            },
        )
        self._saved_at = time.monotonic()

    def _resume(self) -> None:
        found = None if self._checkpoints is None else self._checkpoints.load(f"{self._task.name}.progress")
        if found is None:
            return
        self._state = LoopState(**found["state"])
        self._task.module.load_state_dict(found["module"])
        self._optimiser.load_state_dict(found["optimiser"])
        self._schedule.load_state_dict(found["schedule"])


def compiled(loss: Callable[[Tensor], Tensor], settings: LoopSettings, steps: int) -> Callable[[Tensor], Tensor]:
    """The loss through torch.compile where that pays."""
    long = torch.cuda.is_available() and steps * settings.epochs >= COMPILE_STEPS
    if settings.compiled == "on" or (settings.compiled == "auto" and long):
        found: Callable[[Tensor], Tensor] = torch.compile(loss)
        return found
    return loss


def batches(rows: int, size: int = 16_384) -> Iterator[slice]:
    """range(rows) in slices: for passes without gradients."""
    for begin in range(0, rows, size):
        yield slice(begin, min(rows, begin + size))

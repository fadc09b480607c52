"""Mini-batch training, the same on CPU and CUDA, repeatable from its seed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from msgspec import Struct
from torch import Tensor, nn


class LoopSettings(Struct, frozen=True):
    """Adam with a one-cycle learning rate."""

    epochs: int = 4
    batch_size: int = 1024
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    seed: int = 0


def device() -> torch.device:
    """CUDA where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(module: nn.Module, rows: int, loss_of: Callable[[Tensor], Tensor], settings: LoopSettings) -> list[float]:
    """Minimise `loss_of(indices)` over shuffled mini-batches of `range(rows)`.

    Returns:
        The mean loss of each epoch.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    steps = max(1, rows // settings.batch_size)
    optimiser = torch.optim.Adam(module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=settings.learning_rate, total_steps=steps * settings.epochs
    )
    history = []
    module.train()
    for _ in range(settings.epochs):
        order = torch.randperm(rows, generator=generator)
        total = 0.0
        for step in range(steps):
            indices = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            loss = loss_of(indices)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        history.append(total / steps)
    module.eval()
    return history

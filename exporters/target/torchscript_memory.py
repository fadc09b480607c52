"""What a TorchScript model needs: its weights, and all that its largest batch makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from exporters.formats import torchscript
from exporters.formats.tensors import dtype_of
from trading.models.signature import ModelSignature


class Allocations(TorchDispatchMode):
    """Counts the bytes of every operator's results."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator, count what it made; views of what was there count too."""
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else (out,):
            if isinstance(made, torch.Tensor):
                self.total += made.numel() * made.element_size()
        return out


def measure_torchscript(signature: ModelSignature, path: Path) -> tuple[int, int]:
    """Bytes of weights, and of activations: everything that one largest batch makes, nothing of it freed."""
    module = torchscript.load(path, signature.name)
    weights = sum(t.numel() * t.element_size() for t in module.state_dict().values())
    rows = [torch.from_numpy(np.zeros((signature.max_batch_size, *t.dims), dtype_of(t))) for t in signature.inputs]
    with torch.no_grad(), Allocations() as made:
        module(*rows)
    return weights, made.total + sum(r.numel() * r.element_size() for r in rows)

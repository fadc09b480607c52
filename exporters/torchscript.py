"""TorchScript as Triton's PyTorch backend takes it: the forward's arguments are the input names."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from exporters.errors import ExportError
from exporters.registry import SourceModel


def export(source: SourceModel, path: Path) -> None:
    """Write the module. Raises ExportError when its arguments are not the signature's inputs."""
    schema = source.module.forward.schema  # type: ignore[attr-defined]
    arguments = [a.name for a in schema.arguments[1:]]
    wanted = [t.name for t in source.signature.inputs]
    if arguments != wanted:
        raise ExportError(f"{source.signature.name}: forward takes {arguments}, the signature says {wanted}")
    torch.jit.save(source.module, os.fspath(path))

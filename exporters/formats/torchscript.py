"""TorchScript as Triton's PyTorch backend takes it: the forward's arguments are the input names."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from exporters.errors import ExportError, UnsafeArtefact
from trading.models.signature import TensorSpec

# torch takes longer to import than an ONNX file takes to export.
if TYPE_CHECKING:
    import torch


def load(path: Path, name: str) -> torch.jit.ScriptModule:
    """Open TorchScript. Any other archive may hold a pickle, and is refused unread.

    Raises:
        UnsafeArtefact: it is a pickle.
        ExportError: it is no archive, or a weight holds NaN.
    """
    import torch

    if not is_torchscript(path, name):
        raise UnsafeArtefact(f"{name}: {path.name} is a pickle, not TorchScript: log torch.jit.trace(model)")
    module: torch.jit.ScriptModule = torch.jit.load(os.fspath(path), map_location="cpu")
    for key, tensor in module.state_dict().items():
        # A buffer's infinity is how our networks divide a constant feature away; NaN is never meant.
        if torch.isnan(tensor).any():
            raise ExportError(f"{name}: weight {key} holds NaN: train it again")
    for key, tensor in module.named_parameters():
        if torch.isinf(tensor).any():
            raise ExportError(f"{name}: weight {key} holds an infinity: train it again")
    return module.eval()


def is_torchscript(path: Path, name: str) -> bool:
    """Whether an archive holds code, which a pickled module's does not. Raises ExportError for rubbish."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in member for member in archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise ExportError(f"{name}: {path} is no TorchScript archive: {error}") from error


def arguments(module: torch.jit.ScriptModule) -> list[str]:
    """Names of the forward's arguments."""
    return [a.name for a in module.forward.schema.arguments[1:]]  # type: ignore[attr-defined]


def with_arguments(module: torch.jit.ScriptModule, inputs: tuple[TensorSpec, ...]) -> torch.jit.ScriptModule:
    """The module with arguments of the signature's names.

    Raises:
        ExportError: it takes another number of them, or a name is no identifier.
    """
    import torch

    wanted, found = [t.name for t in inputs], arguments(module)
    if wanted == found:
        return module
    if len(wanted) != len(found):
        raise ExportError(f"forward takes {found}, the signature says {wanted}")
    for name in wanted:
        if not name.isidentifier():
            raise ExportError(
                f"input {name!r} cannot be an argument of TorchScript: rename it, or use --format onnx"
            )
    wrapper = torch.nn.Module()
    wrapper.inner = module
    scripted: torch.jit.ScriptModule = torch.jit.script(wrapper)
    scripted.define(f"def forward(self, {', '.join(wanted)}):\n    return self.inner({', '.join(wanted)})\n")
    return scripted


def save(module: torch.jit.ScriptModule, path: Path) -> None:
    """Write the archive."""
    import torch

    torch.jit.save(module, os.fspath(path))

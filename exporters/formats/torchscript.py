"""TorchScript as Triton's PyTorch backend takes it: the forward's arguments are the input names."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.errors import ExportError, UnsafeArtefact
from exporters.formats.tensors import triton_name
from trading.models.signature import Dtype, TensorSpec

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
    check_arguments(wanted, found)
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


def check_arguments(wanted: Sequence[str], found: Sequence[str]) -> None:
    """Raise ExportError where inputs are not as many as a forward's arguments, or these in another order."""
    if len(wanted) != len(found) or (list(wanted) != list(found) and sorted(wanted) == sorted(found)):
        raise ExportError(
            f"forward takes {', '.join(found)}, in this order, and the inputs are said to be {', '.join(wanted)}"
        )


def named(inputs: tuple[TensorSpec, ...], taken: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Inputs that nobody has named, by the names of a forward's arguments."""
    if len(taken) != len(inputs):
        return inputs
    return tuple(TensorSpec(name, t.dims, t.dtype) for t, name in zip(inputs, taken, strict=True))


def specs_of(answers: Sequence[Any], names: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Outputs as a forward's answers are, by `columns`; those of no dict are called "output", or "output_0" on.

    Raises:
        ExportError: one is of a type that cannot be served.
    """
    called = names or (["output"] if len(answers) == 1 else [f"output_{k}" for k in range(len(answers))])
    return tuple(
        TensorSpec(name, tuple(int(dim) for dim in a.shape[1:]), dtype_name(a, name))
        for name, a in zip(called, answers, strict=True)
    )


def dtype_name(answer: Any, name: str) -> Dtype:
    """Triton's name of a tensor's type. Raises ExportError for one that NumPy has not, as bfloat16."""
    try:
        return triton_name(answer.numpy().dtype, name)
    except TypeError as error:
        raise ExportError(f"{name} is {answer.dtype}, which cannot be served: answer with float32") from error


def columns(answer: Any) -> tuple[list[Any], list[str]]:
    """What a forward answers with as tensors of at least two axes, and their names where it is a dict.

    A number a row becomes a column.

    Raises:
        ExportError: it is, or holds, something else.
    """
    import torch

    if not isinstance(answer, torch.Tensor | tuple | list | dict):
        raise ExportError(
            f"forward answers with {type(answer).__name__}, and only tensors can be served: answer with a "
            "tensor, or with a tuple or a dict of them"
        )
    names = [str(key) for key in answer] if isinstance(answer, dict) else []
    parts = answer.values() if isinstance(answer, dict) else answer
    found = [answer] if isinstance(answer, torch.Tensor) else list(parts)
    for part in found:
        if not isinstance(part, torch.Tensor):
            raise ExportError(
                f"forward answers with {type(part).__name__} within {type(answer).__name__}, and only tensors can "
                "be served: answer with a tensor, or with a tuple or a dict of them"
            )
        if not part.dim():
            raise ExportError(
                "forward answers with one number for a whole batch: a row's answer needs a first axis"
            )
    return [part.unsqueeze(1) if part.dim() == 1 else part for part in found], names


def with_columns(module: torch.jit.ScriptModule, answer: Any) -> torch.jit.ScriptModule:
    """The module with a tensor, or a tuple of tensors, for an answer; `answer` is one of its own, as it is."""
    import torch

    if isinstance(answer, torch.Tensor):
        parts, flat = ["out"], [answer.dim() == 1]
    else:
        keys = list(answer) if isinstance(answer, dict) else range(len(answer))
        parts, flat = [f"out[{key!r}]" for key in keys], [answer[key].dim() == 1 for key in keys]
    if not any(flat) and isinstance(answer, torch.Tensor | tuple):
        return module
    taken = ", ".join(arguments(module))
    told = ", ".join(f"{part}.unsqueeze(1)" if is_flat else part for part, is_flat in zip(parts, flat, strict=True))
    wrapper = torch.nn.Module()
    wrapper.inner = module
    scripted: torch.jit.ScriptModule = torch.jit.script(wrapper)
    scripted.define(f"def forward(self, {taken}):\n    out = self.inner({taken})\n    return {told}\n")
    return scripted


def fuse(
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    steps: Sequence[tuple[str, tuple[TensorSpec, ...], tuple[TensorSpec, ...], torch.jit.ScriptModule]],
) -> torch.jit.ScriptModule:
    """One module of several, joined by the names of their tensors as an ensemble joins them.

    Args:
        inputs, outputs: of the whole.
        steps: of each its name, inputs, outputs and module, in the order in which they are asked.

    Raises:
        ExportError: a step takes, or the whole answers with, a tensor that nothing gives; a name is no identifier.
    """
    import torch

    known, lines, holder = [t.name for t in inputs], [], torch.nn.Module()
    for name, taken, given, module in steps:
        check_known(name, taken, known)
        setattr(holder, name, module)
        found = [t.name for t in given]
        lines.append(f"{', '.join(found)} = self.{name}({', '.join(t.name for t in taken)})")
        known += found
    check_known("the pipeline's answer", outputs, known)
    for name in known:
        if not name.isidentifier():
            raise ExportError(f"tensor {name!r} cannot be a name in TorchScript: rename it")
    scripted: torch.jit.ScriptModule = torch.jit.script(holder)
    body = "".join(f"    {line}\n" for line in [*lines, f"return {', '.join(t.name for t in outputs)}"])
    scripted.define(f"def forward(self, {', '.join(t.name for t in inputs)}):\n{body}")
    return scripted


def check_known(name: str, taken: tuple[TensorSpec, ...], known: Sequence[str]) -> None:
    """Raise ExportError where a step takes what nothing before it gives."""
    unknown = [t.name for t in taken if t.name not in known]
    if unknown:
        raise ExportError(f"{name} needs {', '.join(unknown)}, which no step before it gives")


def save(module: torch.jit.ScriptModule, path: Path) -> None:
    """Write the archive."""
    import torch

    torch.jit.save(module, os.fspath(path))

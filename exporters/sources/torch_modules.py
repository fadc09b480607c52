"""PyTorch modules and exported programs: opened without running anybody's code, unless that is allowed."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from exporters.errors import ExportError, UnsafeArtefact, brief
from exporters.formats.tensors import Arrays, logged, triton_name
from exporters.formats.torchscript import columns
from exporters.sources.estimators import add_code
from exporters.sources.sandbox_protocol import Request
from trading.models.signature import TensorSpec


class TorchModule:
    """A PyTorch module, or an exported program."""

    classes: tuple[str, ...] = ()

    def __init__(self, module: Any, request: Request, *, has_branches: bool = True) -> None:
        """Ask it once. `has_branches`: whether what it does may depend on its rows; torch.export allows none."""
        import inspect

        import torch

        self._module, self._has_branches, self._allowed = module, has_branches, request.tracer_warnings
        if not request.inputs:
            raise ExportError("it has no MLflow signature: log it with signature=infer_signature(inputs, outputs)")
        names = [p.name for p in inspect.signature(module.forward).parameters.values()]
        unnamed = all(t.name.startswith("input") for t in request.inputs) and len(names) == len(request.inputs)
        self.inputs = tuple(
            TensorSpec(name if unnamed else t.name, t.dims, t.dtype)
            for t, name in zip(request.inputs, names if unnamed else [t.name for t in request.inputs], strict=True)
        )
        self._keys: list[str] = []
        self._asked = logged(request.example, self.inputs)
        with torch.inference_mode():
            answers = self.predict(self._asked)
        named = self._keys or [t.name for t in request.outputs]
        if len(named) != len(answers):
            named = [f"output_{k}" for k in range(len(answers))]
        self.outputs = tuple(
            TensorSpec(name, tuple(a.shape[1:]), triton_name(a.dtype, name))
            for name, a in zip(named, answers, strict=True)
        )

    def predict(self, arrays: Arrays) -> Arrays:
        """The module's answers to copies: it may write into what it is given."""
        import torch

        with torch.inference_mode():
            found, self._keys = columns(self._module(*map(torch.tensor, arrays)))
        return [t.numpy() for t in found]

    def known(self) -> None:
        """A network remembers nothing of its rows."""

    def convert(self, path: Path) -> None:
        """TorchScript, and from there ONNX."""
        import torch

        from exporters.formats import onnx
        from exporters.formats.torchscript import save, with_arguments, with_columns

        script = self._script()
        with torch.inference_mode():
            script = with_columns(script, self._module(*map(torch.tensor, self._asked)))
        if path.suffix == ".pt":
            save(with_arguments(script, self.inputs), path)
        else:
            onnx.write(script, self.inputs, self.outputs, path)

    def _script(self) -> Any:
        """Traced; or compiled, where a trace would keep one way only through what depends on the rows."""
        import torch
        from torch.jit._trace import TracerWarning

        from exporters.sources.silent_choices import SilentChoices

        asked = tuple(map(torch.tensor, self._asked))
        more = tuple(torch.tensor(np.resize(a, (len(a) + 2, *a.shape[1:]))) for a in self._asked)
        with warnings.catch_warnings(record=True) as told, SilentChoices() as choices:
            warnings.simplefilter("always", TracerWarning)
            # What torch's own layers ask of their inputs depends on their shape alone.
            TracerWarning.ignore_lib_warnings()
            traced, other = (
                torch.jit.trace(self._module, rows, check_trace=False, strict=not self._keys)
                for rows in (asked, more)
            )
        said = [str(one.message) for one in told if issubclass(one.category, TracerWarning)]
        said += choices.told
        lost = [one for one in said if not any(text in one for text in self._allowed)]
        if not (lost and self._has_branches) and baked(traced) == baked(other):
            return traced
        why = "a trace takes no batch but one of the size that it was made with"
        if lost and self._has_branches:
            why = f"what it does depends on its rows, which a trace would lose ({brief(lost[0])})"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return torch.jit.script(self._module)
            except Exception as error:
                raise ExportError(
                    f"{why}, and TorchScript cannot compile it ({brief(error)}): write choices with torch.where, "
                    "take sizes from the tensors, log it as torch.jit.script(model), or say --allow-tracer-warning"
                ) from error


def baked(traced: Any) -> list[Any]:
    """Whole numbers in a trace; where a batch's size is among them, two batches' traces differ."""
    found, blocks = [], [traced.inlined_graph]
    while blocks:
        for node in blocks.pop().nodes():
            blocks += list(node.blocks())
            if node.kind() == "prim::Constant" and isinstance(value := node.output().toIValue(), int | list):
                found.append(value)
    return found


def open_pytorch(request: Request) -> TorchModule:
    """An exported program without unpickling; a pickled module only with --trust."""
    import torch

    path = Path(request.artefact)
    if path.suffix == ".pt2":
        # The archive also holds example inputs, which torch would unpickle.
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
        try:
            module = torch.export.load(path).module()
        finally:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        return TorchModule(module, request, has_branches=False)
    if not request.trust:
        raise UnsafeArtefact(
            f"{path.name} is a pickled PyTorch module, and opening it runs what its author wrote: log it with "
            'serialization_format="pt2" or torch.jit.trace, or say --trust'
        )
    add_code(request)
    module = torch.load(path, map_location="cpu", weights_only=False)
    if not isinstance(module, torch.nn.Module):
        raise ExportError(f"{path.name} holds {type(module).__name__}, not a torch.nn.Module")
    return TorchModule(module.eval(), request)

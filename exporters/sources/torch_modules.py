"""PyTorch modules and exported programs: opened without running anybody's code, unless that is allowed."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from exporters.errors import ExportError, UnsafeArtefact, brief
from exporters.formats.tensors import Arrays, logged
from exporters.formats.torchscript import check_arguments, columns, named, specs_of
from exporters.sources.declared import WAYS
from exporters.sources.estimators import add_code
from exporters.sources.sandbox_protocol import Request


class TorchModule:
    """A PyTorch module, or an exported program."""

    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def __init__(self, module: Any, request: Request, *, has_branches: bool = True) -> None:
        """Ask it once. `has_branches`: whether what it does may depend on its rows; torch.export allows none."""
        import inspect

        import torch

        self._module, self._has_branches, self._allowed = module, has_branches, request.tracer_warnings
        if not request.inputs:
            raise ExportError(f"it has no signature, and does not tell its dims: {WAYS}")
        taken = [p.name for p in inspect.signature(module.forward).parameters.values()]
        self.inputs = named(request.inputs, taken) if request.unnamed else request.inputs
        if len(taken) == len(self.inputs):
            check_arguments([t.name for t in self.inputs], taken)
        self._keys: list[str] = []
        self._asked = logged(request.example, self.inputs)
        with torch.inference_mode():
            answers = self.predict(self._asked)
        told = self._keys or [t.name for t in request.outputs]
        self.outputs = specs_of([torch.from_numpy(a) for a in answers], told if len(told) == len(answers) else [])

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


def is_state_dict(path: Path) -> bool:
    """Whether a file holds tensors by their names, and no module; nothing of it is run."""
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - what else it is, is found out by whoever may open it
        return False
    # Trainers' checkpoints hold it beside other things.
    inner = [found, *found.values()] if isinstance(found, dict) else []
    return any(
        isinstance(one, dict) and one and all(isinstance(t, torch.Tensor) for t in one.values()) for one in inner
    )


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
    if is_state_dict(path):
        raise ExportError(
            f"{path.name} is a state dict: weights without the module that they belong to. Load them into it, "
            "module.load_state_dict(torch.load(FILE, weights_only=True)), and export "
            "torch.jit.trace(module.eval(), rows).save(FILE), or log the module to MLflow"
        )
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

"""The process in which somebody else's artefact is opened: no credentials, and where possible no network.

It is started by `exporters.isolated`, reads one JSON request a line and answers with one. What it
says is checked by the reader: an artefact that is opened with --trust may run code in here.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from msgspec import Struct

from exporters.errors import ExportError, UnsafeArtefact
from exporters.formats.tensors import Arrays, triton_name
from trading.models.signature import TensorSpec

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
OPSET, ML_OPSET = 18, 3
#: onnxmltools writes nothing newer.
TREES_OPSET = 15

#: What skops may build besides its own defaults: plain data of the two libraries.
SKOPS_TRUSTED = (
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "numpy.dtype",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRegressor",
)


class Request(Struct, frozen=True):
    """One of open, convert, predict; unused fields are empty."""

    op: str
    flavour: str = ""
    artefact: str = ""
    trust: bool = False
    code: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    path: str = ""
    out: str = ""


class Reply(Struct, frozen=True):
    """`error` is a sentence, or empty; the rest answers `open`."""

    error: str = ""
    unsafe: bool = False
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    classes: tuple[str, ...] = ()
    offline: bool = False


class Opened(Protocol):
    """A model that was opened here."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """As they will be served."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """As they will be served."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Of a classifier."""

    def convert(self, path: Path) -> None:
        """Write it as ONNX, or as TorchScript where the path ends in .pt."""

    def predict(self, arrays: Arrays) -> Arrays:
        """Answer as the source does."""


class Estimator:
    """scikit-learn, XGBoost or LightGBM: one float32 matrix in, predictions out."""

    def __init__(self, model: Any, request: Request, to_onnx: Callable[[Any, int], Any]) -> None:
        self._model, self._to_onnx = model, to_onnx
        features = int(getattr(model, "n_features_in_", 0)) or request.inputs[0].dims[-1]
        name = request.inputs[0].name if request.inputs else "input"
        self.inputs = (TensorSpec(name, (features,)),)
        found = getattr(model, "classes_", None)
        self._probabilities = found is not None and hasattr(model, "predict_proba")
        self.classes = tuple(str(c) for c in found) if found is not None else ()
        self._labels = found is not None and np.asarray(found).dtype.kind in "iu"
        if found is not None and not (self._labels or self._probabilities):
            raise ExportError(f"its classes are {np.asarray(found).dtype}, and text cannot be served: use numbers")
        self.outputs = self._outputs(request)

    def _outputs(self, request: Request) -> tuple[TensorSpec, ...]:
        if not self.classes:
            name = request.outputs[0].name if len(request.outputs) == 1 else "prediction"
            return (TensorSpec(name, (int(np.size(self._predict(self._row())[0])),)),)
        outputs = [TensorSpec("label", (1,), "INT64")] if self._labels else []
        if self._probabilities:
            outputs.append(TensorSpec("probabilities", (len(self.classes),)))
        return tuple(outputs)

    def _row(self) -> Any:
        return np.zeros((1, self.inputs[0].dims[0]), np.float32)

    def _predict(self, rows: Any) -> Any:
        names = getattr(self._model, "feature_names_in_", None)
        if names is None:
            return self._model.predict(rows)
        import pandas as pd

        return self._model.predict(pd.DataFrame(rows, columns=names))

    def predict(self, arrays: Arrays) -> Arrays:
        """Labels and probabilities, or the regression's values, as columns."""
        (rows,) = arrays
        answers = []
        if not self.classes or self._labels:
            kind = np.int64 if self._labels else np.float32
            answers.append(np.asarray(self._predict(rows)).astype(kind).reshape(len(rows), -1))
        if self._probabilities:
            answers.append(np.asarray(self._model.predict_proba(rows)).astype(np.float32))
        return answers

    def convert(self, path: Path) -> None:
        """ONNX with exactly the outputs that are announced."""
        from exporters.formats import graph

        if path.suffix == ".pt":
            raise ExportError("TorchScript is for PyTorch models: use --format onnx")
        import onnx

        # Prefixed, so that no inner name can be the same as a served one.
        model = onnx.compose.add_prefix(self._to_onnx(self._model, self.inputs[0].dims[0]), "inner/")
        graph.mend_binary_trees(model)
        converted = [o.name for o in model.graph.output]
        kept = converted if len(self.outputs) == len(converted) else converted[-len(self.outputs) :]
        if self._labels and not self._probabilities:
            kept = converted[:1]
        graph.keep_outputs(model, dict(zip(kept, self.outputs, strict=True)))
        graph.rename_input(model, model.graph.input[0].name, self.inputs[0].name)
        onnx.save_model(model, os.fspath(path))


class TorchModule:
    """A PyTorch module, or an exported program."""

    classes: tuple[str, ...] = ()

    def __init__(self, module: Any, request: Request) -> None:
        import inspect

        import torch

        self._module = module
        if not request.inputs:
            raise ExportError("it has no MLflow signature: log it with signature=infer_signature(inputs, outputs)")
        names = [p.name for p in inspect.signature(module.forward).parameters.values()]
        unnamed = all(t.name.startswith("input") for t in request.inputs) and len(names) == len(request.inputs)
        self.inputs = tuple(
            TensorSpec(name if unnamed else t.name, t.dims, t.dtype)
            for t, name in zip(request.inputs, names if unnamed else [t.name for t in request.inputs], strict=True)
        )
        with torch.inference_mode():
            answers = self.predict([np.zeros((3, *t.dims), np.float32) for t in self.inputs])
        named = [t.name for t in request.outputs]
        if len(named) != len(answers):
            named = [f"output_{k}" for k in range(len(answers))]
        self.outputs = tuple(
            TensorSpec(name, tuple(a.shape[1:]), triton_name(a.dtype, name))
            for name, a in zip(named, answers, strict=True)
        )

    def predict(self, arrays: Arrays) -> Arrays:
        """The module's answers."""
        import torch

        with torch.inference_mode():
            out = self._module(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))
        return [t.numpy() for t in ([out] if isinstance(out, torch.Tensor) else out)]

    def convert(self, path: Path) -> None:
        """TorchScript by tracing, and from there ONNX."""
        import torch

        from exporters.formats import onnx
        from exporters.formats.torchscript import save, with_arguments

        example = tuple(torch.randn(3, *t.dims) for t in self.inputs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(self._module, example, check_trace=False)
        if path.suffix == ".pt":
            save(with_arguments(traced, self.inputs), path)
        else:
            onnx.write(traced, self.inputs, self.outputs, path)


def open_sklearn(request: Request) -> Estimator:
    """A pickle only with --trust; skops only with types that are known to be data."""

    def to_onnx(model: Any, features: int) -> Any:
        skl2onnx = need("skl2onnx", "sklearn")
        types = importlib.import_module("skl2onnx.common.data_types")
        options = {"zipmap": False} if hasattr(model, "classes_") else None
        return skl2onnx.convert_sklearn(
            model,
            initial_types=[("input", types.FloatTensorType([None, features]))],
            options=options,
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
        )

    return Estimator(unpickle(request), request, to_onnx)


def open_xgboost(request: Request) -> Estimator:
    """XGBoost's own file, whichever class wrote it: its objective says what it is."""
    xgboost = need("xgboost", "xgboost")
    import json

    booster = xgboost.Booster()
    booster.load_model(request.artefact)
    objective = str(json.loads(booster.save_config())["learner"]["objective"]["name"])
    kind = xgboost.XGBClassifier if objective.startswith(("binary:", "multi:")) else xgboost.XGBRegressor
    model = kind()
    model.load_model(request.artefact)
    # Columns are told apart by their order here; XGBoost would insist on the training frame's names.
    model.get_booster().feature_names = None

    def to_onnx(found: Any, features: int) -> Any:
        tools = need("onnxmltools", "xgboost")
        types = importlib.import_module("onnxmltools.convert.common.data_types")
        shape = [("input", types.FloatTensorType([None, features]))]
        return tools.convert_xgboost(found, initial_types=shape, target_opset=TREES_OPSET)

    return Estimator(model, request, to_onnx)


def open_lightgbm(request: Request) -> Estimator:
    """LightGBM's own text file as a booster; a pickled estimator only with --trust."""
    lightgbm = need("lightgbm", "lightgbm")
    plain = Path(request.artefact).suffix in {".lgb", ".txt"}
    model = LightGbm(lightgbm.Booster(model_file=request.artefact)) if plain else unpickle(request)

    def to_onnx(found: Any, features: int) -> Any:
        tools = need("onnxmltools", "lightgbm")
        types = importlib.import_module("onnxmltools.convert.common.data_types")
        return tools.convert_lightgbm(
            found.booster if isinstance(found, LightGbm) else found,
            initial_types=[("input", types.FloatTensorType([None, features]))],
            target_opset=TREES_OPSET,
            zipmap=False,
        )

    return Estimator(model, request, to_onnx)


class LightGbm:
    """A booster with the face of an estimator."""

    def __init__(self, booster: Any) -> None:
        self.booster = booster
        self.n_features_in_ = booster.num_feature()
        objective = str(booster.dump_model()["objective"])
        classes = 2 if objective.startswith("binary") else int(booster.dump_model()["num_class"])
        if objective.startswith(("binary", "multiclass")):
            self.classes_ = np.arange(classes)

    def predict(self, rows: Any) -> Any:
        """Labels, or the regression's values."""
        if hasattr(self, "classes_"):
            return self.predict_proba(rows).argmax(axis=1)
        return self.booster.predict(rows)

    def predict_proba(self, rows: Any) -> Any:
        """[n, classes]."""
        found = self.booster.predict(rows)
        return np.column_stack([1.0 - found, found]) if found.ndim == 1 else found


def open_pytorch(request: Request) -> TorchModule:
    """An exported program without unpickling; a pickled module only with --trust."""
    import torch

    path = Path(request.artefact)
    if path.suffix == ".pt2":
        # The archive also holds example inputs, which torch would unpickle.
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
        return TorchModule(torch.export.load(path).module(), request)
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


def unpickle(request: Request) -> Any:
    """Open a pickle or a skops file."""
    path = Path(request.artefact)
    if path.suffix == ".skops":
        skops = need("skops.io", "sklearn")
        unknown = sorted(set(skops.get_untrusted_types(file=path)) - set(SKOPS_TRUSTED))
        if unknown and not request.trust:
            raise UnsafeArtefact(
                f"{path.name} holds types that are not known to be plain data ({', '.join(unknown[:4])}): "
                "say --trust if you know who wrote it"
            )
        return skops.load(path, trusted=[*unknown, *SKOPS_TRUSTED])
    if not request.trust:
        raise UnsafeArtefact(
            f"{path.name} is a pickle, and opening it runs what its author wrote: log it with "
            'serialization_format="skops", or say --trust'
        )
    add_code(request)
    import cloudpickle

    with path.open("rb") as file:
        return cloudpickle.load(file)


def add_code(request: Request) -> None:
    """Modules that were logged beside a pickle."""
    if request.code:
        sys.path.insert(0, request.code)


def need(module: str, extra: str) -> Any:
    """Import an optional library. Raises ExportError that names the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ExportError(
            f"{module} is not installed: `uv pip install 'ultrathink-pilot[{extra}]'` ({error})"
        ) from error


OPENERS: dict[str, Callable[[Request], Opened]] = {
    "sklearn": open_sklearn,
    "xgboost": open_xgboost,
    "lightgbm": open_lightgbm,
    "pytorch": open_pytorch,
}


class Server:
    """Answers requests about one model."""

    def __init__(self) -> None:
        self._opened: Opened | None = None
        self._offline = cut_network()

    def answer(self, request: Request) -> Reply:
        """Raises whatever the model's library raises."""
        if request.op == "open":
            opened = OPENERS[request.flavour](request)
            self._opened = opened
            return Reply(
                inputs=opened.inputs, outputs=opened.outputs, classes=opened.classes, offline=self._offline
            )
        assert self._opened is not None  # noqa: S101 (the client opens first)
        if request.op == "convert":
            self._opened.convert(Path(request.path))
        else:
            with np.load(request.path, allow_pickle=False) as stored:
                arrays = [stored[name] for name in stored.files]
            np.savez(request.out, *self._opened.predict(arrays))
        return Reply()


def cut_network() -> bool:
    """Enter a network namespace without interfaces; False where the kernel does not let us."""
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.unshare(flags) == 0 for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET))


def main() -> None:
    """Serve until standard input ends."""
    # Libraries may print: the protocol keeps the real standard output for itself.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    server = Server()
    for line in sys.stdin.buffer:
        try:
            reply = server.answer(msgspec.json.decode(line, type=Request))
        except UnsafeArtefact as error:
            reply = Reply(error=str(error), unsafe=True)
        except ExportError as error:
            reply = Reply(error=str(error))
        except Exception as error:  # noqa: BLE001 (any library, any model: told in a sentence)
            reply = Reply(error=f"{type(error).__name__}: {' '.join(str(error).split())[:600]}")
        replies.write(msgspec.json.encode(reply) + b"\n")


if __name__ == "__main__":
    main()

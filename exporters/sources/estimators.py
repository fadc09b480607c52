"""scikit-learn, XGBoost and LightGBM: opened without running anybody's code, unless that is allowed."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from exporters.errors import ExportError, UnsafeArtefact
from exporters.formats.tensors import Arrays
from exporters.sources.sandbox_protocol import Request
from trading.models.signature import TensorSpec

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
        raise ExportError(f"{module} is not installed: the extra {extra!r} brings it ({error})") from error

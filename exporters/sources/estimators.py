"""What scikit-learn has written, and what has its face: opened without running anybody's code, unless allowed."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from exporters.errors import ExportError, UnsafeArtefact
from exporters.formats import graph
from exporters.formats.tensors import Arrays, dtype_of, logged
from exporters.sources.declared import WAYS
from exporters.sources.known_rows import known_rows
from exporters.sources.sandbox_protocol import Request
from trading.models.signature import Dtype, TensorSpec

#: Of how far answers lie from one another so much may be lost in single precision.
LOST_SHARE, MANY = 3e-3, 32
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
    """scikit-learn, XGBoost or LightGBM: one matrix in, predictions out.

    A classifier answers with its label, where that is a whole number, and with its probabilities; what finds
    outliers with 1 or -1 and its score; what groups rows with the group's number; anything else with its
    prediction, or with what it makes of the rows.
    """

    def __init__(self, model: Any, request: Request, to_onnx: Callable[..., Any]) -> None:
        self._model, self._to_onnx = model, to_onnx
        request = with_table(request, int(getattr(model, "n_features_in_", 0)), trained_on(model))
        check_columns(request, int(getattr(model, "n_features_in_", 0)), trained_on(model))
        self.columns = request.columns
        self._is_double, self._example = request.is_double, request.example
        dtype: Dtype = "FP64" if request.is_double else "FP32"
        self._table_spec = TensorSpec(request.inputs[0].name, request.inputs[0].dims[-1:], dtype)
        # Of rows that are made up for want of any its answers may lie near to one another for nothing.
        self._is_spread_known = not request.example and known_rows(model, self._table_spec.dims[0]) is None
        self.inputs = columns_of(request, dtype) if request.as_columns else (self._table_spec,)
        found = getattr(model, "classes_", None)
        if isinstance(found, list):
            raise ExportError(
                f"it answers {len(found)} questions at once, and one label is served: train a classifier for each"
            )
        self.classes = tuple(str(c) for c in found) if found is not None else ()
        self._asks = self._methods(found)
        self.outputs = self._outputs(request)
        if taken := {t.name for t in self.inputs} & {t.name for t in self.outputs}:
            raise ExportError(f"a column and an answer are both called {min(taken)!r}: use --inputs matrix")

    def _methods(self, found: Any) -> dict[str, Callable[[Any], Any]]:
        """What is asked of it, by output."""
        model = self._model
        if found is None and not hasattr(model, "predict"):
            return {"output": model.transform}
        answer = np.asarray(self._table(model.predict)(self._row()))
        if answer.dtype.kind not in "biuf" and not hasattr(model, "predict_proba"):
            raise ExportError("its classes are words, and words cannot be served: use numbers")
        if found is not None and len(found) == 1:
            raise ExportError(f"it knows one class only, {found[0]}: train it on rows of several")
        asks = {}
        if answer.dtype.kind in "iu" and (found is not None or not is_regressor(model)):
            asks["label"] = model.predict
        if hasattr(model, "predict_proba"):
            asks["probabilities"] = model.predict_proba
        elif "label" in asks and found is None and hasattr(model, "decision_function"):
            asks["score"] = model.decision_function
        return asks or {"prediction": model.predict}

    def _outputs(self, request: Request) -> tuple[TensorSpec, ...]:
        answers = dict(zip(self._asks, self.predict([self._row()]), strict=True))
        told = [t.name for t in request.outputs]
        names = (
            told if len(answers) == 1 == len(told) and not {"label", "probabilities"} & set(answers) else answers
        )
        return tuple(
            TensorSpec(name, tuple(a.shape[1:]), "INT64" if a.dtype == np.int64 else "FP32")
            for name, a in zip(names, answers.values(), strict=True)
        )

    def _row(self) -> Any:
        if self._example:
            return logged(self._example, (self._table_spec,), 1)[0]
        return np.zeros((1, *self._table_spec.dims), dtype_of(self._table_spec))

    def _table(self, ask: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same of a matrix, for a model that was trained on a table with names."""
        names = getattr(self._model, "feature_names_in_", None)
        if names is None:
            return ask
        import pandas as pd

        return lambda rows: ask(pd.DataFrame(rows, columns=names))

    def predict(self, arrays: Arrays) -> Arrays:
        """Each output's answers as columns: whole numbers as int64, all others as float32."""
        rows = np.concatenate(arrays, axis=1)
        answers = []
        for name, ask in self._asks.items():
            found = self._table(ask)(rows)
            found = np.asarray(found.toarray() if hasattr(found, "toarray") else found)
            if len(rows) >= MANY and not self._is_spread_known:
                check_spread(found)
            answers.append(found.astype(np.int64 if name == "label" else np.float32).reshape(len(rows), -1))
        # What is asked first of many is like its own rows; later ones may be all alike.
        self._is_spread_known |= len(rows) >= MANY
        return answers

    def known(self) -> Arrays | None:
        """Rows like those that it was trained on, float64, as far as it tells."""
        rows = known_rows(self._model, self._table_spec.dims[0])
        return None if rows is None else [rows]

    def convert(self, path: Path) -> None:
        """ONNX with exactly the outputs that are announced."""
        if path.suffix == ".pt":
            raise ExportError("TorchScript is for PyTorch models: use --format onnx")
        import onnx

        # Prefixed, so that no inner name can be the same as a served one.
        given = {"is_double": self._is_double, "is_judged": bool(self._example)}
        made = self._to_onnx(self._model, self._table_spec.dims[0], **given)
        model = onnx.compose.add_prefix(made, "inner/")
        converted = [o.name for o in model.graph.output]
        # A label comes first where there is one, although it may be a word, and is not served then.
        kept = converted[:1] if next(iter(self._asks)) in {"label", "prediction", "output"} else converted[1:2]
        if len(self._asks) > 1:
            kept = converted[:2]
        graph.keep_outputs(model, dict(zip(kept, self.outputs, strict=True)))
        if self.inputs == (self._table_spec,):
            graph.rename_input(model, model.graph.input[0].name, self.inputs[0].name)
        else:
            graph.join_inputs(model, self.inputs)
        onnx.save_model(model, os.fspath(path))


def is_regressor(model: Any) -> bool:
    """Whether whole numbers that it answers with are amounts."""
    try:
        return bool(need("sklearn.base", "sklearn").is_regressor(model))
    except AttributeError:
        # No estimator of scikit-learn's.
        return True


def check_spread(answers: Any) -> None:
    """Raise ExportError for answers that single precision, in which they are served, cannot tell apart."""
    if answers.dtype != np.float64 or not np.isfinite(answers).all():
        return
    with np.errstate(over="ignore"):
        lost = np.abs(answers - answers.astype(np.float32)).max()
    if 0.0 < LOST_SHARE * np.ptp(answers) < lost < np.inf:
        raise ExportError(
            f"its answers, such as {float(answers.flat[0])!r}, lie so near to one another that float32, in which "
            "they are served, cannot tell them apart: train it on their difference from what they have in common"
        )


def columns_of(request: Request, dtype: Dtype) -> tuple[TensorSpec, ...]:
    """A tensor a column. Raises ExportError for what is no table with names."""
    if not request.columns:
        raise ExportError(
            "its signature names no columns: log it with a table that has names, or use --inputs matrix"
        )
    return tuple(TensorSpec(name, (1,), dtype) for name in request.columns)


def trained_on(model: Any) -> tuple[str, ...]:
    """The columns' names as the library itself knows them, in their order; empty where it knows none."""
    found = getattr(model, "feature_names_in_", None)
    if found is None:
        # LightGBM's boosters.
        found = getattr(model, "feature_name_", None)
    names = () if found is None else tuple(map(str, found))
    # LightGBM's own, of what was trained on a matrix.
    return () if all(name == f"Column_{k}" for k, name in enumerate(names)) else names


def with_table(request: Request, features: int, trained: Sequence[str]) -> Request:
    """The request with the one table that the model knows that it was trained on, where no signature tells of it.

    Raises:
        ExportError: the model does not know either.
    """
    if request.inputs:
        return request
    if not (wide := features or len(trained)):
        raise ExportError(f"it has no signature, and does not tell how many columns it takes: {WAYS}")
    return replace(request, inputs=(TensorSpec("input", (wide,)),), columns=tuple(trained))


def check_columns(request: Request, features: int, trained: Sequence[str]) -> None:
    """Raise ExportError unless the signature's one table is what the model was trained on, column by column."""
    if not request.inputs:
        return
    if len(request.inputs) != 1:
        names = [t.name for t in request.inputs]
        raise ExportError(f"its signature names {len(names)} inputs ({', '.join(names)}): it takes one matrix")
    given, wanted = int(np.prod(request.inputs[0].dims)), features or len(trained)
    if wanted and given != wanted:
        raise ExportError(
            f"its signature has {given} columns, and the model was trained on {wanted}: log it again with "
            "signature=infer_signature(the rows that it was trained on, its answers)"
        )
    # LightGBM writes no spaces.
    said, known = ([name.replace(" ", "_") for name in names] for names in (request.columns, trained))
    if not said or not known or said == known:
        return
    first = next(k for k, (a, b) in enumerate(zip(said, known, strict=True)) if a != b)
    how = "in another order" if sorted(said) == sorted(known) else "under other names"
    raise ExportError(
        f"its signature has the model's columns {how}: number {first + 1} is {said[first]!r}, and the model was "
        f"trained on {known[first]!r} there: log it again with the columns as they were in training"
    )


def open_sklearn(request: Request) -> Estimator:
    """A pickle only with --trust; skops only with types that are known to be data."""
    need("skl2onnx", "sklearn")
    from exporters.formats import scikit

    return Estimator(unpickle(request), request, scikit.to_onnx)


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
    if path.suffix == ".joblib":
        return need("joblib", "sklearn").load(path)
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

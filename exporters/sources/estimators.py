"""What scikit-learn has written, and what has its face: opened without running anybody's code, unless allowed."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exporters.errors import ExportError, UnsafeArtefact
from exporters.formats import graph, trees
from exporters.formats.tensors import Arrays
from exporters.sources.sandbox_protocol import Request
from trading.models.signature import TensorSpec

OPSET, ML_OPSET = 18, 3

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
        check_columns(request, int(getattr(model, "n_features_in_", 0)), trained_on(model))
        self.inputs = (TensorSpec(request.inputs[0].name, request.inputs[0].dims[-1:]),)
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
        if path.suffix == ".pt":
            raise ExportError("TorchScript is for PyTorch models: use --format onnx")
        import onnx

        # Prefixed, so that no inner name can be the same as a served one.
        model = onnx.compose.add_prefix(self._to_onnx(self._model, self.inputs[0].dims[0]), "inner/")
        trees.mend_binary_trees(model)
        converted = [o.name for o in model.graph.output]
        kept = converted if len(self.outputs) == len(converted) else converted[-len(self.outputs) :]
        if self._labels and not self._probabilities:
            kept = converted[:1]
        graph.keep_outputs(model, dict(zip(kept, self.outputs, strict=True)))
        graph.rename_input(model, model.graph.input[0].name, self.inputs[0].name)
        onnx.save_model(model, os.fspath(path))


def trained_on(model: Any) -> tuple[str, ...]:
    """The columns' names as the library itself knows them, in their order; empty where it knows none."""
    found = getattr(model, "feature_names_in_", None)
    if found is None:
        # LightGBM's boosters.
        found = getattr(model, "feature_name_", None)
    names = () if found is None else tuple(map(str, found))
    # LightGBM's own, of what was trained on a matrix.
    return () if all(name == f"Column_{k}" for k, name in enumerate(names)) else names


def check_columns(request: Request, features: int, trained: Sequence[str]) -> None:
    """Raise ExportError unless the signature's one table is what the model was trained on, column by column."""
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

    def to_onnx(model: Any, features: int) -> Any:
        skl2onnx = need("skl2onnx", "sklearn")
        types = importlib.import_module("skl2onnx.common.data_types")
        options = {"zipmap": False} if hasattr(model, "classes_") else None
        made = skl2onnx.convert_sklearn(
            model,
            initial_types=[("input", types.FloatTensorType([None, features]))],
            options=options,
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
        )
        trees.mend_missing_values(made, [p.tree_ for p in parts_of(model) if is_tree(getattr(p, "tree_", None))])
        trees.floor_thresholds(made, boosted_splits(model))
        return made

    return Estimator(unpickle(request), request, to_onnx)


def parts_of(model: Any) -> Iterator[Any]:
    """Every object of scikit-learn's within an estimator, in the order in which it holds them."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        thing = waiting.pop(0)
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, dict):
            waiting[:0] = list(thing.values())
        elif isinstance(thing, list | tuple) or (isinstance(thing, np.ndarray) and thing.dtype == object):
            waiting[:0] = list(np.ravel(thing)) if isinstance(thing, np.ndarray) else list(thing)
        elif hasattr(thing, "get_params") or type(thing).__module__.startswith("sklearn."):
            yield thing
            waiting[:0] = list(getattr(thing, "__dict__", {}).values())


def is_tree(thing: Any) -> bool:
    """Whether it is scikit-learn's own tree, which knows where what is missing goes."""
    return hasattr(thing, "missing_go_to_left")


def boosted_splits(model: Any) -> dict[int, set[float]]:
    """Where scikit-learn's histogram boosting splits each column, in double precision."""
    found: dict[int, set[float]] = {}
    for part in parts_of(model):
        nodes = getattr(part, "nodes", None)
        if isinstance(nodes, np.ndarray) and "num_threshold" in (nodes.dtype.names or ()):
            for node in nodes[nodes["is_leaf"] == 0]:
                found.setdefault(int(node["feature_idx"]), set()).add(float(node["num_threshold"]))
    return found


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

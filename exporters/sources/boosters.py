"""XGBoost's and LightGBM's own files, answered as MLflow would: no code of anybody's is run for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from exporters.errors import ExportError
from exporters.formats import lightgbm as lightgbm_graph
from exporters.formats import trees
from exporters.formats import xgboost as xgboost_graph
from exporters.sources.estimators import Estimator, check_columns, need, unpickle
from exporters.sources.sandbox_protocol import Request

#: What MLflow's flavour of XGBoost may say that a file is.
XGBOOST_CLASSES = ("Booster", "XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")


def open_xgboost(request: Request) -> Estimator:
    """XGBoost's own file, as what MLflow would load it as: they do not answer alike.

    A booster answers from all its trees; an estimator of scikit-learn's kind from those up to its best iteration.
    """
    library = need("xgboost", "xgboost")
    booster = library.Booster(model_file=request.artefact)
    described = xgboost_graph.read(bytes(booster.save_raw("json")))
    kind = request.model_class.rpartition(".")[2] or "Booster"
    if kind not in XGBOOST_CLASSES:
        raise ExportError(f"MLflow loads it as {request.model_class}: expected one of {', '.join(XGBOOST_CLASSES)}")
    is_classifier = kind.endswith("Classifier")
    if is_classifier:
        xgboost_graph.check_has_one_label(described)
    check_columns(request, described.features, booster.feature_names or ())
    best = described.best_iteration
    iterations = None if kind == "Booster" or best is None else best + 1
    model: Any = XgbBooster(library, booster)
    if kind != "Booster":
        model = getattr(library, kind)()
        model.load_model(request.artefact)
        booster = model.get_booster()
    # Columns are told apart by their order here; XGBoost would insist on the training frame's names and types.
    booster.feature_names = booster.feature_types = None

    def to_onnx(_: Any, __: int, *, is_double: bool, is_judged: bool) -> Any:  # noqa: ARG001 - one for all
        if is_double:
            raise ExportError("XGBoost computes in single precision itself: leave out --precision fp64")
        return xgboost_graph.to_onnx(described, iterations=iterations, is_classifier=is_classifier)

    return Estimator(model, request, to_onnx)


class XgbBooster:
    """A booster with the face of an estimator."""

    def __init__(self, library: Any, booster: Any) -> None:
        self._library, self._booster = library, booster
        self.n_features_in_ = booster.num_features()

    def predict(self, rows: Any) -> Any:
        """As MLflow's pyfunc asks it."""
        return self._booster.predict(self._library.DMatrix(rows))


def open_lightgbm(request: Request) -> Estimator:
    """LightGBM's own text file as a booster; a pickled estimator only with --trust."""
    library = need("lightgbm", "lightgbm")
    if Path(request.artefact).suffix in {".lgb", ".txt"}:
        booster = library.Booster(model_file=request.artefact)
        return lightgbm_estimator(LightGbm(booster), booster, None, request)
    model = unpickle(request)
    if hasattr(model, "classes_"):
        lightgbm_graph.check_has_probabilities(lightgbm_graph.read(model.booster_.dump_model()))
    return lightgbm_estimator(model, model.booster_, getattr(model, "classes_", None), request)


def lightgbm_estimator(model: Any, booster: Any, classes: Any, request: Request) -> Estimator:
    """What was trained, with our own conversion."""
    described = lightgbm_graph.read(booster.dump_model())
    if len(described.trees) == 0:
        raise ExportError("it has no tree: train it again")

    def to_onnx(_: Any, __: int, *, is_double: bool, is_judged: bool) -> Any:
        if not is_double and not is_judged:
            trees.check_told_apart(lightgbm_graph.splits(described))
        return lightgbm_graph.to_onnx(described, classes=classes, dtype=np.float64 if is_double else np.float32)

    return Estimator(model, request, to_onnx)


class LightGbm:
    """A booster with the face of an estimator."""

    def __init__(self, booster: Any) -> None:
        self.booster = booster
        self.n_features_in_ = booster.num_feature()
        self.feature_name_ = booster.feature_name()

    def predict(self, rows: Any) -> Any:
        """As MLflow's pyfunc asks it."""
        return self.booster.predict(rows)

"""XGBoost's and LightGBM's own files, answered as MLflow would: no code of anybody's is run for them."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

from exporters.errors import ExportError
from exporters.formats import graph, trees
from exporters.formats import xgboost as xgboost_graph
from exporters.sources.estimators import Estimator, check_columns, need, unpickle
from exporters.sources.sandbox_protocol import Request

#: What MLflow's flavour of XGBoost may say that a file is.
XGBOOST_CLASSES = ("Booster", "XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")
#: onnxmltools writes nothing newer.
TREES_OPSET = 15
#: `kZeroThreshold` of LightGBM.
LIGHTGBM_ZERO = 1e-35
#: What its `AvoidInf` makes of an infinity.
LIGHTGBM_LARGEST = 1e300


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

    def to_onnx(_: Any, __: int) -> Any:
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
    lightgbm = need("lightgbm", "lightgbm")
    plain = Path(request.artefact).suffix in {".lgb", ".txt"}
    model = LightGbm(lightgbm.Booster(model_file=request.artefact)) if plain else unpickle(request)

    def to_onnx(found: Any, features: int) -> Any:
        tools = need("onnxmltools", "lightgbm")
        types = importlib.import_module("onnxmltools.convert.common.data_types")
        made = tools.convert_lightgbm(
            found.booster if isinstance(found, LightGbm) else found,
            initial_types=[("input", types.FloatTensorType([None, features]))],
            target_opset=TREES_OPSET,
            zipmap=False,
        )
        trees.floor_thresholds(made, lightgbm_splits(found))
        # It takes whatever is not beyond this for a zero, which is more than its negative.
        trees.lower_thresholds(made, -LIGHTGBM_ZERO)
        if isinstance(found, LightGbm) and found.is_binary:
            # Its one answer is the second class's probability.
            graph.take_column(made, made.graph.output[-1].name, 1)
        return made

    return Estimator(model, request, to_onnx)


def lightgbm_splits(model: Any) -> dict[int, set[float]]:
    """Where a model's trees split each column by size, in double precision."""
    booster = model.booster if isinstance(model, LightGbm) else model.booster_
    found: dict[int, set[float]] = {}
    waiting = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    while waiting:
        node = waiting.pop()
        if node.get("decision_type") == "<=":
            # An infinity counts as its largest number, which only what is missing lies beyond.
            at = float(node["threshold"])
            found.setdefault(int(node["split_feature"]), set()).add(math.inf if at >= LIGHTGBM_LARGEST else at)
        waiting += [node[side] for side in ("left_child", "right_child") if side in node]
    return found


class LightGbm:
    """A booster with the face of an estimator."""

    def __init__(self, booster: Any) -> None:
        self.booster = booster
        self.n_features_in_ = booster.num_feature()
        self.feature_name_ = booster.feature_name()
        self.is_binary = str(booster.dump_model(num_iteration=1).get("objective", "")).startswith("binary")

    def predict(self, rows: Any) -> Any:
        """As MLflow's pyfunc asks it."""
        return self.booster.predict(rows)

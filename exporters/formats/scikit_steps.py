"""What skl2onnx is told: trees and boosters as our own graphs, and what it does otherwise than scikit-learn."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from exporters.errors import ExportError
from exporters.formats import lightgbm, scikit_trees, xgboost
from exporters.formats.building import INPUT, ML_OPSET, OPSET
from exporters.formats.scikit_trees import BOOSTED, FORESTS

SELECTION = (
    "GenericUnivariateSelect", "RFE", "RFECV", "SelectFdr", "SelectFpr", "SelectFromModel", "SelectFwe",
    "SelectKBest", "SelectPercentile", "VarianceThreshold",
)  # fmt: skip
SCALERS = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler")
#: What skl2onnx may ask of a classifier's converter.
CLASSIFIED = {
    "zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True],
    "raw_scores": [True, False],
}  # fmt: skip
XGBOOST = ("XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor", "XGBRanker")
LIGHTGBM = ("LGBMClassifier", "LGBMRegressor", "LGBMRanker")


def register(skl2onnx: Any, types: Any) -> None:
    """Tell skl2onnx of trees, of the boosters that are loaded, and of what it does otherwise than scikit-learn.

    Of feature selection it forgets the first column where that is the only one; scalers it writes as a product.
    """
    selection = importlib.import_module("sklearn.feature_selection")
    own: list[tuple[Any, Any, Any]] = [
        (getattr(selection, name), selected_shape, convert_selection) for name in SELECTION
    ]
    scalers = importlib.import_module("sklearn.preprocessing")
    own += [(getattr(scalers, name), same_shape, convert_scaler) for name in SCALERS]
    own.append((scalers.Normalizer, same_shape, convert_normalizer))
    for module, names in {"sklearn.tree": FORESTS[:4], "sklearn.ensemble": (*FORESTS[4:], *BOOSTED)}.items():
        own += [(getattr(importlib.import_module(module), name), tree_shape, convert_tree) for name in names]
    for module, names in {"xgboost": XGBOOST, "lightgbm": LIGHTGBM}.items():
        if module in sys.modules:
            own += [(getattr(sys.modules[module], name), tree_shape, convert_tree) for name in names]
    for kind, shape, convert in own:
        skl2onnx.update_registered_converter(
            kind,
            f"Ultrathink{kind.__name__}",
            bound(shape, types),
            convert,
            overwrite=True,
            options=options_of(kind.__name__),
        )


def options_of(name: str) -> dict[str, Any] | None:
    """What skl2onnx may ask of a converter."""
    if name == "IsolationForest":
        return {"score_samples": [False]}
    return CLASSIFIED if name.endswith("Classifier") else None


def bound(shape: Any, types: Any) -> Any:
    """A calculator of shapes as skl2onnx calls it."""
    return lambda operator: shape(operator, types)


def selected_shape(operator: Any, types: Any) -> None:  # noqa: ARG001 - one for all
    """As many columns as are kept."""
    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = type(operator.inputs[0].type)([
        rows, len(operator.raw_operator.get_support(indices=True)),
    ])  # fmt: skip


def convert_selection(scope: Any, operator: Any, container: Any) -> None:
    """The kept columns."""
    kept = operator.raw_operator.get_support(indices=True)
    name = scope.get_unique_variable_name("kept")
    container.add_initializer(name, TensorProto.INT64, [len(kept)], kept.tolist())
    container.add_node(
        "Gather", [operator.inputs[0].full_name, name], [operator.outputs[0].full_name], op_version=OPSET, axis=1
    )


def same_shape(operator: Any, types: Any) -> None:
    """As many columns as before; whole numbers become float32."""
    given = operator.inputs[0].type
    kind = type(given) if "Double" in type(given).__name__ else types.FloatTensorType
    operator.outputs[0].type = kind([operator.inputs[0].get_first_dimension(), given.shape[1]])


class Steps:
    """Operators of one converter, one after another, with names that are nobody else's."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self._scope, self._container = scope, container
        self._given, self._made = operator.inputs[0].full_name, operator.outputs[0].full_name
        self.own = np.float64 if "Double" in type(operator.outputs[0].type).__name__ else np.float32

    def start(self) -> str:
        """The rows, in the output's own type."""
        return self.cast(self._given, self.own)

    def cast(self, rows: str, kind: Any) -> str:
        """Another type."""
        return self.add("Cast", [rows], to=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))

    def constant(self, values: Any, kind: Any) -> str:
        """A constant's name."""
        name = self._scope.get_unique_variable_name("constant")
        found = np.asarray(values, kind)
        self._container.add_initializer(
            name, helper.np_dtype_to_tensor_dtype(found.dtype), list(found.shape), found.ravel().tolist()
        )
        return str(name)

    def add(self, operator: str, inputs: list[str], **given: Any) -> str:
        """An operator; returns its output's name."""
        output = self._scope.get_unique_variable_name("step")
        self._container.add_node(operator, inputs, [output], op_version=OPSET, **given)
        return str(output)

    def end(self, rows: str) -> None:
        """What comes out."""
        self._container.add_node("Identity", [rows], [self._made], op_version=OPSET)


def convert_scaler(scope: Any, operator: Any, container: Any) -> None:
    """What the scaler does, in its order and precision: a tree behind it splits at what it makes."""
    made = Steps(scope, operator, container)
    rows = made.start()
    for step, values, is_wide in steps_of(operator.raw_operator):
        # Where NumPy computes with the scaler's own numbers, and rounds what comes of it.
        kind = np.float64 if is_wide else made.own
        rows = made.cast(made.add(step, [made.cast(rows, kind), made.constant(values, kind)]), made.own)
    made.end(rows)


def convert_normalizer(scope: Any, operator: Any, container: Any) -> None:
    """Rows over their norm, where that is more than rounding."""
    made, norm = Steps(scope, operator, container), operator.raw_operator.norm
    rows, axes = made.start(), made.constant([1], np.int64)
    if norm == "max":
        sizes = made.add("ReduceMax", [made.add("Abs", [rows]), axes], keepdims=1)
    else:
        sizes = made.add({"l1": "ReduceL1", "l2": "ReduceL2"}[norm], [rows, axes], keepdims=1)
    is_none = made.add("Less", [sizes, made.constant([10 * np.finfo(made.own).eps], made.own)])
    made.end(made.add("Div", [rows, made.add("Where", [is_none, made.constant([1.0], made.own), sizes])]))


def steps_of(scaler: Any) -> list[tuple[str, Any, bool]]:
    """What a scaler does to a row: the operator, the columns' numbers, and whether in double precision."""
    name = type(scaler).__name__
    if name == "StandardScaler":
        found = [("Sub", scaler.mean_ if scaler.with_mean else None, False)]
        found.append(("Div", scaler.scale_ if scaler.with_std else None, False))
    elif name == "RobustScaler":
        found = [("Sub", scaler.center_ if scaler.with_centering else None, True)]
        found.append(("Div", scaler.scale_ if scaler.with_scaling else None, True))
    elif name == "MaxAbsScaler":
        found = [("Div", scaler.scale_, True)]
        found += limits_of(-1.0, 1.0) if getattr(scaler, "clip", False) else []
    else:
        found = [("Mul", scaler.scale_, True), ("Add", scaler.min_, True)]
        found += limits_of(*scaler.feature_range) if scaler.clip else []
    return [step for step in found if step[1] is not None]


def limits_of(least: float, most: float) -> list[tuple[str, Any, bool]]:
    """What clips."""
    return [("Max", [least], False), ("Min", [most], False)]


def tree_shape(operator: Any, types: Any) -> None:
    """Label and probabilities of a classifier, else one number."""
    rows, model = operator.inputs[0].get_first_dimension(), operator.raw_operator
    if type(model).__name__ == "IsolationForest":
        operator.outputs[0].type = types.Int64TensorType([rows, 1])
        operator.outputs[1].type = types.FloatTensorType([rows, 1])
        return
    if not hasattr(model, "classes_"):
        operator.outputs[0].type = types.FloatTensorType([rows, int(getattr(model, "n_outputs_", 1))])
        return
    words = np.asarray(model.classes_).dtype.kind not in "iu"
    operator.outputs[0].type = (types.StringTensorType if words else types.Int64TensorType)([rows])
    operator.outputs[1].type = types.FloatTensorType([rows, len(model.classes_)])


def convert_tree(scope: Any, operator: Any, container: Any) -> None:
    """Our own graph of it, with names that are nobody else's."""
    model = operator.raw_operator
    given = operator.inputs[0]
    is_double = "Double" in type(given.type).__name__ and type(model).__name__ in (*LIGHTGBM, *BOOSTED)
    made = tree_graph(model, np.float64 if is_double else np.float32)
    # Whatever the step before has made of the rows.
    kind = TensorProto.DOUBLE if is_double else TensorProto.FLOAT
    names = {"": "", INPUT: scope.get_unique_variable_name("rows")}
    names |= {o.name: s.full_name for o, s in zip(made.graph.output, operator.outputs, strict=True)}
    container.add_node("Cast", [given.full_name], [names[INPUT]], op_version=OPSET, to=kind)
    for constant in made.graph.initializer:
        names[constant.name] = constant.name = scope.get_unique_variable_name("booster")
        container.initializers.append(constant)
    for node in made.graph.node:
        for name in node.output:
            names.setdefault(name, scope.get_unique_variable_name("booster"))
    for node in made.graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        container.add_node(
            node.op_type,
            [names[name] for name in node.input],
            [names[name] for name in node.output],
            op_domain=node.domain,
            op_version=ML_OPSET if node.domain else OPSET,
            name=scope.get_unique_operator_name("booster"),
            **attributes,
        )


def tree_graph(model: Any, dtype: Any) -> Any:
    """Trees as ONNX, whosever they are. Raises ExportError."""
    if type(model).__name__ in FORESTS:
        return scikit_trees.forest(model)
    if type(model).__name__ in BOOSTED:
        return scikit_trees.boosted(model, dtype)
    classes = getattr(model, "classes_", None)
    if type(model).__name__ in LIGHTGBM:
        grown = lightgbm.read(model.booster_.dump_model())
        if classes is not None:
            lightgbm.check_has_probabilities(grown)
        return lightgbm.to_onnx(
            grown,
            classes=None if classes is None else np.asarray(classes),
            dtype=dtype,
        )
    missing = model.get_params().get("missing")
    if missing is not None and not np.isnan(missing):
        raise ExportError(
            f"{type(model).__name__} takes {missing!r} for what is missing, which is not kept in ONNX: leave "
            "missing=nan, and put nan where a value is missing"
        )
    booster = model.get_booster()
    described = xgboost.read(bytes(booster.save_raw("json")))
    if classes is not None:
        xgboost.check_has_one_label(described)
    best = described.best_iteration
    return xgboost.to_onnx(
        described, iterations=None if best is None else best + 1, is_classifier=classes is not None
    )

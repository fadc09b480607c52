"""scikit-learn's estimators as ONNX graphs: skl2onnx's, with our own of boosters within them, and mended."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from onnx import helper, numpy_helper
from onnx.inliner import inline_local_functions

from exporters.errors import ExportError, brief
from exporters.formats import lightgbm, scikit_steps, trees
from exporters.formats.building import INPUT, ML_OPSET, OPSET
from exporters.formats.graph import BATCH
from exporters.formats.scikit_steps import LIGHTGBM

#: What skl2onnx converts, and not to what it is: the class, what makes it so, and what to do instead.
#: Each was seen with skl2onnx 1.20.
LOST: dict[str, tuple[Callable[[Any], bool], str]] = {
    "TunedThresholdClassifierCV": (
        lambda _: True,
        "loses its threshold in ONNX: export its estimator_, and compare the probability with best_threshold_",
    ),
    "FixedThresholdClassifier": (
        lambda _: True,
        "loses its threshold in ONNX: export its estimator_, and compare the probability with the threshold",
    ),
    "CalibratedClassifierCV": (
        lambda m: m.method == "isotonic" or any(map(is_calibrated_elsewhere, m.calibrated_classifiers_)),
        "answers otherwise in ONNX if isotonic, or over LightGBM, histogram boosting or a pipeline: use another",
    ),
    "SGDClassifier": (
        lambda m: m.loss == "modified_huber" and len(m.classes_) > 2,
        "with loss='modified_huber' and several classes loses how it chooses its label: use loss='log_loss'",
    ),
    "SVC": (
        lambda m: m.break_ties and len(m.classes_) > 2,
        "with break_ties chooses its label otherwise in ONNX: use break_ties=False",
    ),
    "NuSVC": (
        lambda m: m.break_ties and len(m.classes_) > 2,
        "with break_ties chooses its label otherwise in ONNX: use break_ties=False",
    ),
    "LinearDiscriminantAnalysis": (
        lambda m: m.solver != "svd" and len(m.classes_) == 2,
        "of two classes answers otherwise in ONNX unless its solver is 'svd': use that",
    ),
    "RadiusNeighbors": (
        lambda _: True,
        "ends a whole batch in ONNX Runtime when one of its rows has no neighbour: use KNeighbors",
    ),
    "KNNImputer": (
        lambda _: True,
        "becomes functions in ONNX that ONNX Runtime does not load: use SimpleImputer",
    ),
    "GaussianProcessClassifier": (
        lambda _: True,
        "needs an operator (com.microsoft Solve) that ONNX Runtime does not have",
    ),
}  # fmt: skip
NEEDS_DOUBLE = ("KNeighbors", "LocalOutlierFactor", "GaussianProcess")


def is_calibrated_elsewhere(calibrated: Any) -> bool:
    """Whether scikit-learn calibrates other scores of an estimator than skl2onnx does."""
    name = type(calibrated.estimator).__name__
    return name.startswith(("LGBM", "HistGradientBoosting")) or hasattr(calibrated.estimator, "steps")


def to_onnx(model: Any, features: int, *, is_double: bool, is_judged: bool) -> Any:
    """An ONNX model of one input, [batch, features].

    Args:
        model: a fitted estimator or pipeline.
        features: how many columns it takes.
        is_double: whether rows and arithmetic are in double precision, where ONNX has it.
        is_judged: whether logged rows tell what is lost in single precision.

    Raises:
        ExportError: it has what has no form in ONNX, or loses something there.
    """
    skl2onnx = importlib.import_module("skl2onnx")
    types = importlib.import_module("skl2onnx.common.data_types")
    while hasattr(model, "best_estimator_"):
        # Whatever searched for it answers as it does.
        model = model.best_estimator_
    parts = list(parts_of(model))
    check_kept(parts, is_double=is_double)
    if not is_double and not is_judged:
        trees.check_told_apart(boosted_splits(parts))
    scikit_steps.register(skl2onnx, types)
    for part in parts:
        if type(part).__name__ == "VotingClassifier":
            # What concerns its transform alone, and skl2onnx refuses it.
            part.flatten_transform = False
        if type(part).__name__.startswith("Voting") and part.weights is not None:
            # It asks a list for what arrays have.
            part.weights = np.asarray(part.weights)
    kind = types.DoubleTensorType if is_double else types.FloatTensorType
    columns = columns_by_name(model, parts)
    made = converted(
        skl2onnx, model, [(name, kind([None, 1])) for name in columns] or [(INPUT, kind([None, features]))]
    )
    if columns:
        join_columns(made, columns)
    return inline_local_functions(made) if made.functions else made


def converted(skl2onnx: Any, model: Any, inputs: list[tuple[str, Any]]) -> Any:
    """What skl2onnx makes of it. Raises ExportError."""
    opsets = {"": OPSET, "ai.onnx.ml": ML_OPSET}
    try:
        try:
            return skl2onnx.convert_sklearn(
                model, initial_types=inputs, options={"zipmap": False}, target_opset=opsets
            )
        except (NameError, RuntimeError, ValueError) as error:
            # What answers with no probabilities has no such option.
            if "zipmap" not in str(error):
                raise
            return skl2onnx.convert_sklearn(model, initial_types=inputs, target_opset=opsets)
    except ExportError:
        raise
    except Exception as error:
        unknown = re.search(r"(?:type|for) '?<class '([^']+)'>", str(error))
        if type(error).__name__ in {"MissingShapeCalculator", "MissingConverter"} and unknown:
            raise ExportError(
                f"{unknown[1]} has no form in ONNX that skl2onnx knows: leave it out of what is served, or put "
                "what it does where the answer is asked for"
            ) from error
        raise ExportError(f"skl2onnx has no form for it in ONNX: {brief(error)}") from error


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


def check_kept(parts: list[Any], *, is_double: bool) -> None:
    """Raise ExportError for what would not be what it is."""
    for part in parts:
        for name, (is_lost, why) in LOST.items():
            if type(part).__name__.startswith(name) and is_lost(part):
                raise ExportError(f"{type(part).__name__} {why}")
        if not is_double and type(part).__name__.startswith(NEEDS_DOUBLE):
            raise ExportError(
                f"{type(part).__name__} compares distances that single precision cannot tell apart: use "
                "--precision fp64"
            )


def boosted_splits(parts: list[Any]) -> dict[int, set[float]]:
    """Where scikit-learn's histogram boosting splits each column, in double precision."""
    found: dict[int, set[float]] = {}
    for part in parts:
        nodes = getattr(part, "nodes", None)
        if isinstance(nodes, np.ndarray) and "num_threshold" in (nodes.dtype.names or ()):
            for node in nodes[nodes["is_leaf"] == 0]:
                found.setdefault(int(node["feature_idx"]), set()).add(float(node["num_threshold"]))
        if type(part).__name__ in LIGHTGBM and getattr(part, "fitted_", False):
            for column, values in lightgbm.splits(lightgbm.read(part.booster_.dump_model())).items():
                found.setdefault(column, set()).update(values)
    return found


# ---- tables with names ---------------------------------------------------------------------------


def columns_by_name(model: Any, parts: list[Any]) -> list[str]:
    """The table's columns, where some step takes them by their names; else none."""
    chosen = [c for part in parts for _, _, c in getattr(part, "transformers", [])]
    by_name = any(
        isinstance(c, str) or (isinstance(c, list) and any(isinstance(x, str) for x in c)) for c in chosen
    )
    return [str(name) for name in model.feature_names_in_] if by_name else []


def join_columns(model: Any, columns: list[str]) -> None:
    """Make one table of inputs that are a column each."""
    kind = model.graph.input[0].type.tensor_type.elem_type
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    table = INPUT
    while table in taken:
        table += "_"
    gathered = []
    for k, name in enumerate(columns):
        model.graph.initializer.append(numpy_helper.from_array(np.array([k], np.int64), f"{table}/{k}"))
        gathered.append(helper.make_node("Gather", [table, f"{table}/{k}"], [name], axis=1))
    nodes = [*gathered, *model.graph.node]
    del model.graph.node[:], model.graph.input[:]
    model.graph.node.extend(nodes)
    model.graph.input.append(helper.make_tensor_value_info(table, kind, [BATCH, len(columns)]))

"""Whatever a conversion mends is missed by some row as soon as it is left out."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.paths import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
TREES, LIGHTGBM, XGBOOST = (f"exporters.formats.{name}" for name in ("scikit_trees", "lightgbm", "xgboost"))
STEPS, BUILDING, TORCH = (
    "exporters.formats.scikit_steps",
    "exporters.formats.building",
    "exporters.sources.torch_modules",
)
SCRIPT, CONVERSION, ESTIMATORS = (
    "exporters.formats.torchscript",
    "exporters.conversion",
    "exporters.sources.estimators",
)

#: The module, its text, what stands there instead, and the row that sees it.
MUTATIONS = [
    (TREES, "int(tree.children_right[node]), int(tree.missing_go_to_left[node]),\n        )  # fmt: skip\n\n\ndef boosted", "int(tree.children_right[node]), 0,\n        )  # fmt: skip\n\n\ndef boosted", "scikit-learn DecisionTreeRegressor trained with missing values"),
    (TREES, "values = values / values.sum(axis=1, keepdims=True)", "values = values * 1.0 + 0.001", "scikit-learn RandomForestClassifier three classes, missing values"),
    (TREES, 'nearest32(node["num_threshold"])', 'floor32(node["num_threshold"])', "scikit-learn HistGradientBoostingRegressor trained in double precision"),
    (TREES, 'nearest32(node["num_threshold"])', 'np.float32(node["num_threshold"])', "scikit-learn HistGradientBoostingRegressor trained with missing values"),
    (BUILDING, "base = self._centred(base)", "base = list(base)", "scikit-learn RandomForestRegressor answers near 1e5"),
    (TREES, 'int(order[node["feature_idx"]])', 'int(node["feature_idx"])', "scikit-learn HistGradientBoostingRegressor categories"),
    (TREES, "(right, left) if to_left else (left, right)", "(left, right)", "scikit-learn HistGradientBoostingRegressor categories"),
    (TREES, 'bool(node["missing_go_to_left"])', "False", "scikit-learn HistGradientBoostingRegressor trained with missing values"),
    (TREES, '"Identity" if link == "IdentityLink" else "Exp"', '"Identity"', "scikit-learn HistGradientBoostingRegressor Poisson"),
    (TREES, "-model.offset_", "0.0", "scikit-learn IsolationForest"),
    (LIGHTGBM, "model.groups / len(model.trees) if model.is_mean else 1.0", "1.0", "LightGBM Booster boosting=rf"),
    (LIGHTGBM, 'CATEGORY if node["decision_type"] == "==" else str(node["missing_type"])', 'str(node["missing_type"])', "LightGBM Booster categories, few a group"),
    (LIGHTGBM, '("Zero", "None", CATEGORY)', '("zero", "None", CATEGORY)', "LightGBM Booster zero_as_missing"),
    (LIGHTGBM, "if missing.any():", "if False:", "LightGBM Booster use_missing=false"),
    (LIGHTGBM, "if at >= LARGEST:", "if False:", "LightGBM Booster missing values"),
    (LIGHTGBM, "float(floor32(at))", "float(np.float32(at))", "LightGBM Booster regression"),
    (LIGHTGBM, "np.full(1, model.sigmoid, np.float32)", "np.ones(1, np.float32)", "LightGBM Booster a sigmoid of 2"),
    (LIGHTGBM, "if model.is_root:", "if False:", "LightGBM Booster regression on the square root"),
    (LIGHTGBM, 'int(node["default_left"])', "0", "LightGBM Booster missing values"),
    (XGBOOST, "iterations_end(kept, model.groups, iterations))", "count)", "XGBoost XGBRegressor stopped early"),
    (XGBOOST, "missing_is_named=not to_left", "missing_is_named=bool(to_left)", "XGBoost Booster categories"),
    (XGBOOST, "float(np.float32(conditions[node]) * weight)", "float(conditions[node])", "XGBoost Booster dart"),
    (XGBOOST, 'made.add("Where", ["is_missing", "nothing", INPUT], "present")', 'made.add("Identity", [INPUT], "present")', "XGBoost Booster gblinear, missing values"),
    (XGBOOST, '"BRANCH_LT"', '"BRANCH_LEQ"', "XGBoost Booster reg:squarederror"),
    (XGBOOST, '("logit", "sigmoid"),\n    "binary:logitraw"', '("identity", "sigmoid"),\n    "binary:logitraw"', "XGBoost Booster reg:logistic"),
    (BUILDING, 'self.add("Gather", ["classes", "number"], LABEL)', 'self.add("Identity", ["number"], LABEL)', "scikit-learn RandomForestClassifier classes -5, 2, 9"),
    (STEPS, 'found = [("Mul", scaler.scale_, True), ("Add", scaler.min_, True)]', 'found = [("Mul", scaler.scale_, True)]', "scikit-learn Pipeline MinMaxScaler, then Ridge"),
    (STEPS, "limits_of(*scaler.feature_range) if scaler.clip else []", "[]", "scikit-learn Pipeline MinMaxScaler, clipped, then Ridge"),
    (STEPS, "10 * np.finfo(made.own).eps", "0.0", "scikit-learn Pipeline Normalizer, then Ridge"),
    (STEPS, "rows = made.cast(made.add(step, [made.cast(rows, kind), made.constant(values, kind)]), made.own)", 'rows = made.add("Mul", [rows, made.constant(1.0 / np.asarray(values), made.own)]) if step == "Div" else made.add(step, [rows, made.constant(values, made.own)])', "scikit-learn Pipeline StandardScaler, then XGBRegressor"),
    (STEPS, "iterations=None if best is None else best + 1", "iterations=1", "scikit-learn Pipeline StandardScaler, then XGBClassifier, stopped early"),
    (TORCH, "baked(traced) == baked(other)", "True", "PyTorch LSTM pt2"),
    (TORCH, "not (lost and self._has_branches)", "True", "PyTorch a branch on missing values pickle"),
    (TORCH, "said += choices.told", "pass", "PyTorch a branch on torch.allclose pickle, --format torchscript"),
    (SCRIPT, 'f"{part}.unsqueeze(1)" if is_flat else part', "part", "PyTorch one number a row without an axis, pickle"),
    (CONVERSION, "    check_narrowing(source, signature, path)\n", "", "LightGBM Booster seconds since 1970, rows logged"),
    (ESTIMATORS, "return None if rows is None else [rows]", "return None", "scikit-learn HistGradientBoostingRegressor seconds since 1970"),
]  # fmt: skip


@pytest.fixture(scope="module")
def ends():
    """Exit code and words of each, from one process that forks."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.conformance.mutant"], input=json.dumps(MUTATIONS),
        cwd=ROOT, capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(MUTATIONS)), ids=lambda k: f"{k} {MUTATIONS[k][1][:50]}")
def test_it_is_missed(number, ends):
    code, said = ends[number]
    assert code == 3, f"exit {code}: {said}"

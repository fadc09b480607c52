"""scikit-learn's trees send what is missing where they learnt to, and split where they split, as exported too."""

from __future__ import annotations

import warnings

import lightgbm
import mlflow
import numpy as np
import pytest
from mlflow.models import infer_signature
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from exporters.export import export_model
from exporters.repository.repository import ModelRepository
from exporters.sources.opened import run_file
from tests.unit.exporters.models import around_splits, options

RNG = np.random.default_rng(2)
ROWS = RNG.normal(size=(300, 4)).astype(np.float32)
# Missing is not at random: the trees learn to send it either way.
ROWS[(RNG.random(ROWS.shape) < 0.15) & (ROWS > -0.5)] = np.nan
SCORE = np.nan_to_num(ROWS[:, 0], nan=1.5) - 2 * np.isnan(ROWS[:, 1]) + np.nan_to_num(ROWS[:, 2]) ** 2
BINARY, CLASSES = (SCORE > 0.5).astype(int), np.digitize(SCORE, [0.0, 1.0])

KINDS = {
    "tree": lambda: DecisionTreeRegressor(max_depth=7).fit(ROWS, SCORE),
    "tree classes": lambda: DecisionTreeClassifier(max_depth=7).fit(ROWS, CLASSES),
    "tree two classes": lambda: DecisionTreeClassifier(max_depth=7).fit(ROWS, BINARY),
    "forest": lambda: RandomForestRegressor(12, random_state=0).fit(ROWS, SCORE),
    "forest classes": lambda: RandomForestClassifier(12, random_state=0).fit(ROWS, CLASSES),
    "forest two classes": lambda: RandomForestClassifier(12, random_state=0).fit(ROWS, BINARY),
    "extra trees": lambda: ExtraTreesRegressor(12, random_state=0).fit(ROWS, SCORE),
    "extra trees classes": lambda: ExtraTreesClassifier(12, random_state=0).fit(ROWS, BINARY),
    "never missing": lambda: RandomForestRegressor(12, random_state=0).fit(np.nan_to_num(ROWS), SCORE),
    "pipeline": lambda: make_pipeline(StandardScaler(), RandomForestRegressor(12, random_state=0)).fit(ROWS, SCORE),
    "voting": lambda: VotingRegressor([
        ("a", RandomForestRegressor(5, random_state=0)), ("b", DecisionTreeRegressor(max_depth=3)),
    ]).fit(ROWS, SCORE),
    "bagging": lambda: BaggingClassifier(DecisionTreeClassifier(max_depth=4), 5, random_state=0).fit(ROWS, BINARY),
    "boosting": lambda: HistGradientBoostingRegressor(max_iter=12).fit(ROWS, SCORE),
}  # fmt: skip


def exported(tmp_path, model, rows=ROWS):
    folder, repository = tmp_path / "logged", ModelRepository(tmp_path / "models")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            model, str(folder), serialization_format="cloudpickle",
            signature=infer_signature(rows, model.predict(rows)), pip_requirements=["numpy"],
        )  # fmt: skip
    done = export_model(str(folder), options(max_batch=64, trust=True), repository, lambda _: None)
    contract = repository.lineage(done.name, 1).contract
    path = repository.folder(done.name, 1) / contract.file_name
    return run_file(contract, path), path, repository.golden(contract, 1)


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_is_missing_goes_where_the_tree_sends_it(tmp_path, kind):
    model = KINDS[kind]()
    run, path, (golden, _) = exported(tmp_path, model)
    assert np.isnan(golden[0]).any()  # a release asks the server such rows, too
    rows = np.concatenate([ROWS, np.where(np.eye(4, dtype=bool), np.nan, np.float32(0.2)), np.full((1, 4), np.nan)])
    around = around_splits(path, np.full(4, 0.1, np.float32))
    rows = np.concatenate([rows.astype(np.float32), around])
    answers = run([rows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = model.predict_proba(rows) if hasattr(model, "classes_") else model.predict(rows).reshape(-1, 1)
    np.testing.assert_allclose(answers[-1], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", ["regression", "binary", "multiclass"])
@pytest.mark.parametrize("how", ["zeros", "missing"])
def test_lightgbm_takes_what_is_next_to_nothing_for_zero(tmp_path, objective, how):
    rows = RNG.normal(size=(300, 4)).astype(np.float32)
    rows[RNG.random(rows.shape) < 0.1] = 0.0 if how == "zeros" else np.nan
    score = np.nan_to_num(rows[:, 0] - rows[:, 1]) - 3 * (np.nan_to_num(rows[:, 2]) == 0)
    labels = {"regression": score, "binary": score > 0, "multiclass": np.digitize(score, [-1.0, 1.0])}[objective]
    classes = {"num_class": 3} if objective == "multiclass" else {}
    model = lightgbm.train({"objective": objective, "verbose": -1, **classes}, lightgbm.Dataset(rows, labels), 8)
    folder, repository = tmp_path / "logged", ModelRepository(tmp_path / "models")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.lightgbm.save_model(
            model, str(folder), signature=infer_signature(rows, model.predict(rows)), pip_requirements=["numpy"]
        )
    done = export_model(str(folder), options(max_batch=64), repository, lambda _: None)
    contract = repository.lineage(done.name, 1).contract
    path = repository.folder(done.name, 1) / contract.file_name
    asked = np.concatenate([rows, around_splits(path, np.nan_to_num(rows[0]))])
    (answers,) = run_file(contract, path)([asked])
    np.testing.assert_allclose(answers, model.predict(asked).reshape(len(asked), -1), rtol=1e-5, atol=1e-5)


def test_a_model_that_takes_no_missing_values_is_not_asked_for_any(tmp_path):
    model = LinearRegression().fit(np.nan_to_num(ROWS), SCORE)
    _, _, (golden, _) = exported(tmp_path, model, np.nan_to_num(ROWS))
    assert not np.isnan(golden[0]).any()

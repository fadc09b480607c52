"""XGBoost's models are served as MLflow answers them: every objective and booster, what is missing, and each split."""

from __future__ import annotations

import warnings

import mlflow
import numpy as np
import pytest
import xgboost
from mlflow.models import infer_signature

from exporters.errors import ExportError
from exporters.export import export_model
from exporters.repository.repository import ModelRepository
from exporters.sources.opened import run_file
from tests.unit.exporters.models import around_splits, options

RNG = np.random.default_rng(11)
ROWS = RNG.normal(size=(400, 5)).astype(np.float32)
ROWS[RNG.random(ROWS.shape) < 0.1] = np.nan
SCORE = np.nan_to_num(ROWS[:, 0] - ROWS[:, 1] * ROWS[:, 2])
POSITIVE = np.exp(SCORE / 4).astype(np.float32)
BINARY, CLASSES = (SCORE > 0).astype(int), np.digitize(SCORE, [-0.5, 0.5])


def logged(folder, model, rows=ROWS):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = mlflow_answers(model, rows)
        mlflow.xgboost.save_model(
            model, str(folder), signature=infer_signature(rows, answers), pip_requirements=["numpy"]
        )
    return folder


def mlflow_answers(model, rows):
    return model.predict(xgboost.DMatrix(rows) if isinstance(model, xgboost.Booster) else rows)


def hostile(path):
    """Rows at and beside each split, with what is missing, beside the training's."""
    rows = around_splits(path, np.nan_to_num(ROWS[0]))
    missing = ROWS.copy()
    missing[:5] = np.where(np.eye(5, dtype=bool), np.nan, np.float32(0.3))
    missing[5] = np.nan
    return np.concatenate([missing, rows])


def exported(tmp_path, model, rows=ROWS):
    repository = ModelRepository(tmp_path / "models")
    done = export_model(
        str(logged(tmp_path / "logged", model, rows)), options(max_batch=64), repository, lambda _: None
    )
    contract = repository.lineage(done.name, 1).contract
    path = repository.folder(done.name, 1) / contract.file_name
    return done, run_file(contract, path), path


def train(labels, rounds=12, **given):
    depth = {} if given.get("booster") == "gblinear" else {"max_depth": 4}
    return xgboost.train({"nthread": 1, **depth, **given}, xgboost.DMatrix(ROWS, labels), rounds)


BOOSTERS = {
    "squarederror": (SCORE, {}),
    "squaredlogerror": (POSITIVE, {"objective": "reg:squaredlogerror"}),
    "pseudohuber": (SCORE, {"objective": "reg:pseudohubererror"}),
    "absolute": (SCORE, {"objective": "reg:absoluteerror"}),
    "quantile": (SCORE, {"objective": "reg:quantileerror", "quantile_alpha": 0.3}),
    "poisson": (POSITIVE, {"objective": "count:poisson"}),
    "gamma": (POSITIVE, {"objective": "reg:gamma"}),
    "tweedie": (POSITIVE, {"objective": "reg:tweedie"}),
    "logistic": (BINARY, {"objective": "binary:logistic"}),
    "logitraw": (BINARY, {"objective": "binary:logitraw", "base_score": 0.3}),
    "hinge": (BINARY, {"objective": "binary:hinge"}),
    "regression of shares": (BINARY, {"objective": "reg:logistic"}),
    "softprob": (CLASSES, {"objective": "multi:softprob", "num_class": 3}),
    "softmax": (CLASSES, {"objective": "multi:softmax", "num_class": 3}),
    "dart": (SCORE, {"booster": "dart", "rate_drop": 0.3}),
    "linear": (SCORE, {"booster": "gblinear"}),
    "linear classes": (CLASSES, {"booster": "gblinear", "objective": "multi:softprob", "num_class": 3}),
    "forests": (CLASSES, {"num_parallel_tree": 3, "objective": "multi:softprob", "num_class": 3, "subsample": 0.7}),
    "base score": (SCORE, {"base_score": 7.5}),
    "targets": (np.column_stack([SCORE, -2 * SCORE, POSITIVE]), {}),
}


@pytest.mark.parametrize("kind", list(BOOSTERS))
def test_a_booster_answers_as_it_does_itself(tmp_path, kind):
    labels, given = BOOSTERS[kind]
    model = train(labels, **given)
    _, run, path = exported(tmp_path, model)
    rows = hostile(path)
    (answers,) = run([rows])
    wanted = model.predict(xgboost.DMatrix(rows))
    np.testing.assert_allclose(answers, wanted.reshape(len(rows), -1), rtol=1e-5, atol=1e-5)


def test_a_booster_that_stopped_early_answers_from_all_its_trees_and_an_estimator_from_its_best(tmp_path):
    train_rows, test_rows = xgboost.DMatrix(ROWS[:300], SCORE[:300]), xgboost.DMatrix(ROWS[300:], SCORE[300:])
    booster = xgboost.train(
        {"max_depth": 6, "eta": 0.8, "nthread": 1}, train_rows, 60, evals=[(test_rows, "test")],
        early_stopping_rounds=15, verbose_eval=False,
    )  # fmt: skip
    assert booster.num_boosted_rounds() > booster.best_iteration + 1
    _, run, path = exported(tmp_path / "booster", booster)
    rows = hostile(path)
    wanted = booster.predict(xgboost.DMatrix(rows))
    assert (
        np.abs(
            wanted - booster.predict(xgboost.DMatrix(rows), iteration_range=(0, booster.best_iteration + 1))
        ).max()
        > 1e-3
    )
    np.testing.assert_allclose(run([rows])[0][:, 0], wanted, rtol=1e-5, atol=1e-5)

    estimator = xgboost.XGBRegressor(
        n_estimators=60, max_depth=6, learning_rate=0.8, early_stopping_rounds=15, n_jobs=1
    )
    estimator.fit(ROWS[:300], SCORE[:300], eval_set=[(ROWS[300:], SCORE[300:])], verbose=False)
    _, run, path = exported(tmp_path / "estimator", estimator)
    rows = hostile(path)
    np.testing.assert_allclose(run([rows])[0][:, 0], estimator.predict(rows), rtol=1e-5, atol=1e-5)
    every = estimator.get_booster().predict(xgboost.DMatrix(rows))
    assert np.abs(every - estimator.predict(rows)).max() > 1e-3


@pytest.mark.parametrize("labels", [BINARY, CLASSES], ids=["two", "three"])
@pytest.mark.parametrize("kind", ["XGBClassifier", "XGBRFClassifier"])
def test_a_classifier_answers_with_label_and_probabilities(tmp_path, kind, labels):
    model = getattr(xgboost, kind)(n_estimators=8, max_depth=4, n_jobs=1).fit(ROWS, labels)
    done, run, path = exported(tmp_path, model)
    assert done.outputs == f"label INT64 [1], probabilities FP32 [{len(set(labels))}]"
    rows = hostile(path)
    label, probabilities = run([rows])
    wanted = model.predict_proba(rows)
    np.testing.assert_allclose(probabilities, wanted, rtol=1e-5, atol=1e-6)
    clear = np.ptp(np.sort(wanted)[:, -2:], axis=1) > 1e-5
    np.testing.assert_array_equal(label[clear, 0], model.predict(rows)[clear])


def test_a_ranker_answers_with_its_scores(tmp_path):
    model = xgboost.XGBRanker(n_estimators=8, n_jobs=1).fit(ROWS, CLASSES, qid=np.arange(400) // 20)
    _, run, path = exported(tmp_path, model)
    rows = hostile(path)
    np.testing.assert_allclose(run([rows])[0][:, 0], model.predict(rows), rtol=1e-5, atol=1e-5)


def test_categories_go_where_they_went_seen_or_not(tmp_path):
    rows = ROWS.copy()
    rows[:, 4] = RNG.integers(0, 9, len(rows))
    labels = np.isin(rows[:, 4], [1, 4, 7]) + np.nan_to_num(rows[:, 0])
    types = ["q", "q", "q", "q", "c"]
    matrix = xgboost.DMatrix(rows, labels, feature_types=types, enable_categorical=True)
    model = xgboost.train({"max_depth": 4, "max_cat_to_onehot": 1, "nthread": 1}, matrix, 10)
    repository = ModelRepository(tmp_path / "models")
    folder = tmp_path / "logged"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.xgboost.save_model(
            model, str(folder), signature=infer_signature(rows, labels), pip_requirements=["numpy"]
        )
    done = export_model(str(folder), options(max_batch=64), repository, lambda _: None)
    contract = repository.lineage(done.name, 1).contract
    run = run_file(contract, repository.folder(done.name, 1) / contract.file_name)
    asked = np.repeat(rows[:30], 12, axis=0)
    asked[:, 4] = np.tile([*range(10), 200, np.nan], 30)
    wanted = model.predict(xgboost.DMatrix(asked, feature_types=types, enable_categorical=True))
    np.testing.assert_allclose(run([asked])[0][:, 0], wanted, rtol=1e-5, atol=1e-5)


def test_a_classifier_that_was_trained_for_the_label_alone_answers_with_both(tmp_path):
    model = xgboost.XGBClassifier(objective="multi:softmax", n_estimators=5, n_jobs=1).fit(ROWS, CLASSES)
    assert '"multi:softmax"' in model.get_booster().save_config()
    _, run, path = exported(tmp_path, model)
    rows = hostile(path)
    label, probabilities = run([rows])
    np.testing.assert_allclose(probabilities, model.predict_proba(rows), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(label[:, 0], model.predict(rows))


def test_what_has_no_form_in_onnx_is_a_sentence(tmp_path):
    model = train(np.column_stack([SCORE, -SCORE]), multi_strategy="multi_output_tree", tree_method="hist")
    with pytest.raises(ExportError, match="leaf of its trees answers for several targets"):
        exported(tmp_path, model)

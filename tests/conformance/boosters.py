"""XGBoost and LightGBM, in their own files and as scikit-learn's estimators."""

from __future__ import annotations

import warnings

import lightgbm
import mlflow
import numpy as np
import xgboost

from tests.conformance.cases import (
    BINARY,
    CLASSES,
    CODED,
    CODES,
    GAPS,
    LATER,
    MISSING,
    NUMBERS,
    SCORE,
    SECONDS,
    TARGETS,
    WORDS,
    Case,
    Ends,
    Model,
    Refused,
    Within,
    save,
)  # fmt: skip

QUIET = {"nthread": 1, "seed": 0}
POSITIVE = np.exp(SCORE / 4)
LABELS = {
    "score": SCORE, "binary": BINARY, "classes": CLASSES, "positive": POSITIVE, "gaps": GAPS, "rank": CLASSES,
    "coded": CODED, "targets": TARGETS, "share": BINARY * 0.8 + 0.1, "words": WORDS,
}  # fmt: skip
ROWS = {"gaps": MISSING, "coded": CODES}


def booster(data="score", rounds=8, **given) -> Model:
    """`xgboost.train`."""
    rows, labels = ROWS.get(data, NUMBERS), LABELS[data]
    kinds = ["c", "q", "q", "c"] if given.pop("categories", False) else None
    early = given.pop("early", None)
    held = given.pop("held", None)
    matrix = xgboost.DMatrix(
        rows[:160], labels[:160], feature_types=kinds, enable_categorical=bool(kinds), group=held
    )
    evals = [(xgboost.DMatrix(rows[160:], labels[160:]), "test")] if early else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = xgboost.train(
            {**QUIET, **given}, matrix, rounds, evals=evals, early_stopping_rounds=early, verbose_eval=False
        )

    def ask(asked):
        return [model.predict(xgboost.DMatrix(asked[0], feature_types=kinds, enable_categorical=bool(kinds)))]

    def write(path):
        save(mlflow.xgboost, model, rows, ask([rows])[0], path, input_example=rows[:64] if kinds else None)

    # MLflow's pyfunc knows nothing of categories that have no name.
    return Model(write, ask, [rows], predict=None if kinds else 0, fractions=True)


def estimator(kind, data="score", *, eval_set=False, **given) -> Model:
    """XGBoost's or LightGBM's estimator of scikit-learn's kind."""
    rows, labels = ROWS.get(data, NUMBERS), LABELS[data]
    flavour = mlflow.lightgbm if kind.__module__.startswith("lightgbm") else mlflow.xgboost
    quiet = {"verbose": -1} if flavour is mlflow.lightgbm else {}
    model = kind(**{"n_estimators": 8, "n_jobs": 1, "random_state": 0, **quiet, **given})
    extra = {"eval_set": [(rows[160:], labels[160:])]} if eval_set else {}
    if eval_set and flavour is mlflow.xgboost:
        extra["verbose"] = False
    if kind in {xgboost.XGBRanker, lightgbm.LGBMRanker}:
        extra = {"group": [40, 60, 60]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(rows[:160], labels[:160], **extra)

    def ask(asked):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not hasattr(model, "classes_"):
                return [model.predict(asked[0])]
            said = [] if np.asarray(model.classes_).dtype.kind not in "iu" else [model.predict(asked[0])]
            return [*said, model.predict_proba(asked[0])]

    def write(path):
        # What skops takes for code of one's own.
        pickled = kind is lightgbm.LGBMRanker or callable(given.get("objective"))
        save(
            flavour,
            model,
            rows,
            model.predict(rows),
            path,
            **({"serialization_format": "cloudpickle"} if pickled else {}),
        )

    return Model(write, ask, [rows], predict=None if data == "words" else 0)


def several_labels() -> Model:
    """Three questions at once."""
    rows, labels = NUMBERS, np.column_stack([BINARY, 1 - BINARY, CLASSES > 1])
    model = xgboost.XGBClassifier(n_estimators=4, n_jobs=1).fit(rows, labels)
    return Model(
        lambda path: save(mlflow.xgboost, model, rows, model.predict(rows), path),
        lambda a: [model.predict_proba(a[0])],
        [rows],
    )


def lgb(data="score", rounds=8, *, boundaries=None, example=False, **given) -> Model:
    """`lightgbm.train`."""
    rows, labels = ROWS.get(data, NUMBERS), LABELS[data]
    if data == "later":
        rows, labels = SECONDS, LATER
    kinds = [0, 3] if given.pop("categories", False) else "auto"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = lightgbm.train(
            {"verbose": -1, "num_threads": 1, "seed": 0, "min_data_in_leaf": 5, **given},
            lightgbm.Dataset(rows, labels, categorical_feature=kinds, group=boundaries), rounds,
        )  # fmt: skip

    def ask(asked):
        return [model.predict(asked[0])]

    def write(path):
        save(mlflow.lightgbm, model, rows, ask([rows])[0], path, input_example=rows[:64] if example else None)

    return Model(write, ask, [rows], fractions=True)


LABELS["later"] = LATER
ROWS["zeros"] = np.where(np.abs(NUMBERS) < 0.6, np.float32(0), NUMBERS)
LABELS["zeros"] = 3.0 * (ROWS["zeros"] == 0).sum(axis=1) + ROWS["zeros"][:, 0]


def continued() -> Model:
    """Two trainings, of which one has seen missing values."""
    given = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}
    first = lightgbm.train(given, lightgbm.Dataset(NUMBERS, SCORE, free_raw_data=False), 5)
    model = lightgbm.train(given, lightgbm.Dataset(MISSING, GAPS, free_raw_data=False), 5, init_model=first)
    return Model(
        lambda path: save(mlflow.lightgbm, model, NUMBERS, SCORE, path), lambda a: [model.predict(a[0])], [NUMBERS]
    )


def own_loss(predicted, data):
    """Squares, by hand."""
    return predicted - data.get_label(), np.ones_like(predicted)


def x(options, make, ends: Ends | None = None, kind="Booster") -> Case:
    return Case("XGBoost", kind, options, make, ends or Within())


def g(options, make, ends: Ends | None = None, kind="Booster", **given) -> Case:
    return Case("LightGBM", kind, options, make, ends or Within(), given.get("arguments", {}))


FOUR = {"num_class": 3}
XGBOOST = [
    *(
        x(objective, lambda o=objective, d=data: booster(d, objective=o))
        for objective, data in {
            "reg:squarederror": "score", "reg:squaredlogerror": "positive", "reg:pseudohubererror": "score",
            "reg:absoluteerror": "score", "reg:logistic": "share", "binary:logistic": "binary",
            "binary:logitraw": "binary", "binary:hinge": "binary", "count:poisson": "positive",
            "reg:gamma": "positive", "reg:tweedie": "positive", "survival:cox": "positive", "rank:pairwise": "rank",
            "rank:ndcg": "rank",
        }.items()
    ),
    x("multi:softprob", lambda: booster("classes", objective="multi:softprob", **FOUR)),
    x("multi:softmax", lambda: booster("classes", objective="multi:softmax", **FOUR)),
    x("reg:quantileerror", lambda: booster(objective="reg:quantileerror", quantile_alpha=0.3)),
    x("base_score 0.3, raw scores", lambda: booster("binary", objective="binary:logitraw", base_score=0.3)),
    x("gblinear, three classes", lambda: booster("classes", booster="gblinear", objective="multi:softprob", **FOUR)),
    x("a forest in each round, three classes", lambda: booster("classes", num_parallel_tree=3, subsample=0.7, objective="multi:softprob", **FOUR)),
    x("several quantiles", lambda: booster(objective="reg:quantileerror", quantile_alpha=[0.2, 0.8])),
    x("missing values", lambda: booster("gaps")),
    x("categories", lambda: booster("coded", categories=True, tree_method="hist")),
    x("categories, in sets", lambda: booster("coded", categories=True, tree_method="hist", max_cat_to_onehot=1)),
    x("categories, one at a time", lambda: booster("coded", categories=True, tree_method="hist", max_cat_to_onehot=9)),
    x("dart", lambda: booster(booster="dart", rate_drop=0.3)),
    x("gblinear", lambda: booster(booster="gblinear")),
    x("gblinear, missing values", lambda: booster("gaps", booster="gblinear")),
    x("a forest in each round", lambda: booster(num_parallel_tree=4, subsample=0.6)),
    x("stopped early", lambda: booster(rounds=60, early=3, eta=0.8)),
    x("base_score 7", lambda: booster(base_score=7.0)),
    x("several targets", lambda: booster("targets")),
    x("several targets in a leaf", lambda: booster("targets", multi_strategy="multi_output_tree", tree_method="hist"), Refused("each leaf of its trees answers for several targets")),
    x("exact splits", lambda: booster(tree_method="exact")),
    x("lossguide, deep", lambda: booster(grow_policy="lossguide", max_leaves=60, max_depth=0)),
    x("monotone constraints", lambda: booster(monotone_constraints="(1,0,0,-1)")),
    x("", lambda: estimator(xgboost.XGBRegressor), kind="XGBRegressor"),
    x("missing values", lambda: estimator(xgboost.XGBRegressor, "gaps"), kind="XGBRegressor"),
    x("stopped early", lambda: estimator(xgboost.XGBRegressor, eval_set=True, n_estimators=60, early_stopping_rounds=3, learning_rate=0.8), kind="XGBRegressor"),
    x("two classes", lambda: estimator(xgboost.XGBClassifier, "binary"), kind="XGBClassifier"),
    x("three classes", lambda: estimator(xgboost.XGBClassifier, "classes"), kind="XGBClassifier"),
    x("trained for the label alone", lambda: estimator(xgboost.XGBClassifier, "classes", objective="multi:softmax"), kind="XGBClassifier"),
    x("several labels a row", several_labels, Refused("answers 3 questions at once"), kind="XGBClassifier"),
    x("stopped early", lambda: estimator(xgboost.XGBClassifier, "classes", eval_set=True, n_estimators=60, early_stopping_rounds=3, learning_rate=0.8), kind="XGBClassifier"),
    x("", lambda: estimator(xgboost.XGBRanker, "rank"), kind="XGBRanker"),
    x("", lambda: estimator(xgboost.XGBRFRegressor), kind="XGBRFRegressor"),
    x("", lambda: estimator(xgboost.XGBRFClassifier, "binary"), kind="XGBRFClassifier"),
]  # fmt: skip
LIGHTGBM = [
    *(
        g(objective, lambda o=objective, d=data: lgb(d, objective=o))
        for objective, data in {
            "regression": "score", "regression_l1": "score", "huber": "score", "fair": "score", "quantile": "score",
            "mape": "positive", "poisson": "positive", "gamma": "positive", "tweedie": "positive", "binary": "binary",
            "cross_entropy": "share", "cross_entropy_lambda": "share",
        }.items()
    ),
    g("multiclass", lambda: lgb("classes", objective="multiclass", **FOUR)),
    g("multiclassova", lambda: lgb("classes", objective="multiclassova", **FOUR)),
    g("lambdarank", lambda: lgb("rank", objective="lambdarank", boundaries=[100, 140])),
    g("rank_xendcg", lambda: lgb("rank", objective="rank_xendcg", boundaries=[100, 140])),
    g("an objective of one's own", lambda: lgb(objective=own_loss)),
    g("regression on the square root", lambda: lgb("positive", objective="regression", reg_sqrt=True)),
    g("a sigmoid of 2", lambda: lgb("binary", objective="binary", sigmoid=2.0)),
    g("missing values", lambda: lgb("gaps")),
    g("zero_as_missing", lambda: lgb("coded", zero_as_missing=True)),
    g("use_missing=false", lambda: lgb("gaps", use_missing=False)),
    g("rows that hold zeros", lambda: lgb("zeros")),
    g("categories", lambda: lgb("coded", categories=True)),
    g("categories, few a group", lambda: lgb("coded", categories=True, min_data_per_group=5, cat_smooth=1)),
    g("boosting=rf", lambda: lgb(boosting="rf", bagging_freq=1, bagging_fraction=0.6)),
    g("boosting=rf, three classes", lambda: lgb("classes", boosting="rf", bagging_freq=1, bagging_fraction=0.6, objective="multiclass", **FOUR)),
    g("dart", lambda: lgb(boosting="dart")),
    g("continued on other rows", continued, Refused("do not agree about what is missing")),
    g("linear_tree", lambda: lgb(linear_tree=True), Refused("each leaf of its trees is a linear model")),
    g("seconds since 1970", lambda: lgb("later"), Refused("which are one number in float32")),
    g("seconds since 1970, rows logged", lambda: lgb("later", example=True), Refused("are answered otherwise once they are rounded to float32")),
    g("seconds since 1970, --precision fp64", lambda: lgb("later"), arguments={"precision": "fp64"}),
    g("", lambda: estimator(lightgbm.LGBMRegressor), kind="LGBMRegressor"),
    g("missing values", lambda: estimator(lightgbm.LGBMRegressor, "gaps"), kind="LGBMRegressor"),
    g("two classes", lambda: estimator(lightgbm.LGBMClassifier, "binary"), kind="LGBMClassifier"),
    g("three classes", lambda: estimator(lightgbm.LGBMClassifier, "classes"), kind="LGBMClassifier"),
    g("classes that are words", lambda: estimator(lightgbm.LGBMClassifier, "words"), kind="LGBMClassifier"),
    g("stopped early", lambda: estimator(lightgbm.LGBMClassifier, "binary", eval_set=True, n_estimators=60, early_stopping_round=3), kind="LGBMClassifier"),
    g("an objective of one's own", lambda: estimator(lightgbm.LGBMClassifier, "binary", objective=lambda y, p: (p - y, np.ones_like(p))), Refused("answers with raw scores"), kind="LGBMClassifier"),
    g("", lambda: estimator(lightgbm.LGBMRanker, "rank"), kind="LGBMRanker"),
    g("three classes, --precision fp64", lambda: estimator(lightgbm.LGBMClassifier, "classes"), kind="LGBMClassifier", arguments={"precision": "fp64"}),
]  # fmt: skip
CASES = [*XGBOOST, *LIGHTGBM]

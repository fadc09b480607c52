"""scikit-learn: estimators alone, in pipelines, and within one another."""

from __future__ import annotations

import mlflow
import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn import (
    calibration,
    cluster,
    compose,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    kernel_approximation,
    linear_model,
    mixture,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    random_projection,
    svm,
    tree,
)
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.cross_decomposition import PLSRegression
from sklearn.dummy import DummyRegressor
from sklearn.isotonic import IsotonicRegression
from sklearn.kernel_ridge import KernelRidge
from xgboost import XGBClassifier, XGBRegressor

from tests.conformance.cases import (
    BINARY,
    CLASSES,
    CODED,
    CODES,
    COLUMNS,
    COUNTED,
    COUNTS,
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

SCIKIT = "scikit-learn"
EACH = {"random_state": 0}
pipe, union = pipeline.make_pipeline, pipeline.make_union


def table(estimator, rows, target, *, named=False, example=False, fractions=False, fitted=False) -> Model:
    """An estimator, trained on a matrix or on a table with names."""
    trained = pd.DataFrame(rows, columns=COLUMNS[: rows.shape[1]]) if named else rows
    estimator = estimator if fitted else estimator.fit(trained, target)

    def ask(rows):
        (given,) = rows
        given = pd.DataFrame(given, columns=COLUMNS[: given.shape[1]]) if named else given
        if not hasattr(estimator, "predict"):
            return [estimator.transform(given)]
        labels = np.asarray(estimator.predict(given))
        found = getattr(estimator, "classes_", None)
        if found is None:
            probabilities = [estimator.predict_proba(given)] if hasattr(estimator, "predict_proba") else []
            scores = hasattr(estimator, "decision_function") and labels.dtype.kind == "i"
            return [labels, *probabilities, *([estimator.decision_function(given)] if scores else [])]
        said = [] if np.asarray(found).dtype.kind not in "iu" else [labels]
        return said + ([estimator.predict_proba(given)] if hasattr(estimator, "predict_proba") else [])

    def write(path):
        answers = ask([rows])[0] if not hasattr(estimator, "predict") else estimator.predict(trained)
        save(
            mlflow.sklearn,
            estimator,
            trained,
            answers,
            path,
            serialization_format="cloudpickle",
            input_example=trained[:64] if example else None,
        )

    words = (
        getattr(estimator, "classes_", None) is not None and np.asarray(estimator.classes_).dtype.kind not in "iu"
    )
    return Model(
        write, ask, [rows], fractions=fractions, predict=None if words or not hasattr(estimator, "predict") else 0
    )


DATA = {
    "score": (NUMBERS, SCORE), "binary": (NUMBERS, BINARY), "classes": (NUMBERS, CLASSES), "words": (NUMBERS, WORDS),
    "counts": (COUNTS, COUNTED), "gaps": (MISSING, GAPS), "gaps two": (MISSING, (GAPS > 0.5).astype(int)),
    "gaps three": (MISSING, np.digitize(GAPS, [0.0, 1.0])), "coded": (CODES, CODED), "targets": (NUMBERS, TARGETS),
    "positive": (NUMBERS, np.exp(SCORE / 4)), "later": (SECONDS, LATER), "none": (NUMBERS, None),
    "two words": (NUMBERS, np.where(BINARY, "up", "down")), "flags": (NUMBERS, BINARY.astype(bool)),
    "halves": (NUMBERS, CLASSES.astype(float)), "tiny": (NUMBERS, SCORE * 1e-6), "far": (NUMBERS, CLASSES * 7 - 5),
}  # fmt: skip


#: What is refused, and with which words; all else is served.
REFUSED = {
    ("LinearRegression", "seconds since 1970"): "are answered otherwise once they are rounded to float32",
    (
        "HistGradientBoostingRegressor",
        "seconds since 1970, rows logged",
    ): "are answered otherwise once they are rounded to float32",
    (
        "HistGradientBoostingRegressor",
        "seconds since 1970",
    ): "are answered otherwise once they are rounded to float32",
    ("SVR", "--precision fp64"): "Could not find an implementation for SVMRegressor",
    ("LinearSVC", "classes that are words"): "its classes are words",
    ("RandomTreesEmbedding", ""): "cannot convert the model with sparse outputs",
    ("RandomForestClassifier", "one class"): "it knows one class only",
    ("RandomForestClassifier", "several targets"): "it answers 2 questions at once",
    ("MultiOutputClassifier", ""): "it answers 2 questions at once",
    ("KNeighborsRegressor", ""): "compares distances that single precision cannot tell apart",
    ("KNeighborsClassifier", ""): "compares distances that single precision cannot tell apart",
    ("LocalOutlierFactor", "novelty"): "compares distances that single precision cannot tell apart",
    ("GaussianProcessRegressor", ""): "compares distances that single precision cannot tell apart",
    ("RadiusNeighborsClassifier", ""): "ends a whole batch in ONNX Runtime when one of its rows has no neighbour",
    ("RadiusNeighborsRegressor", ""): "ends a whole batch in ONNX Runtime when one of its rows has no neighbour",
    ("CategoricalNB", "no rows logged"): "log it with input_example=",
    ("GaussianProcessClassifier", ""): "needs an operator (com.microsoft Solve)",
    ("MiniBatchKMeans", ""): "label differs by 1 (file) at batch 32 on adversarial rows",
    ("CalibratedClassifierCV", "isotonic"): "answers otherwise in ONNX if isotonic",
    ("CalibratedClassifierCV", "over LightGBM"): "over LightGBM",
    ("SGDClassifier", "modified_huber, three classes"): "loses how it chooses its label",
    ("LinearDiscriminantAnalysis", "solver eigen, two classes"): "unless its solver is 'svd'",
    ("RandomForestRegressor", "answers near 1.7e9"): "cannot tell them apart",
    ("HistGradientBoostingRegressor", "categories above 2**24"): "are one number in float32",
    ("TunedThresholdClassifierCV", ""): "loses its threshold in ONNX",
    ("TransformedTargetRegressor", ""): "has no form in ONNX that skl2onnx knows",
    ("KernelRidge", ""): "has no form in ONNX that skl2onnx knows",
    ("DummyRegressor", ""): "has no form in ONNX that skl2onnx knows",
    ("an estimator of one's own", ""): "has no form in ONNX that skl2onnx knows",
    ("IsotonicRegression", ""): "has no form in ONNX that skl2onnx knows",
}
REFUSED_STEPS = {
    "KBinsDiscretizer": "onehot encoding not supported",
    "SplineTransformer": "has no form in ONNX that skl2onnx knows",
    "KNNImputer": "becomes functions in ONNX",
    "MissingIndicator": "has no form in ONNX that skl2onnx knows",
    "RBFSampler": "has no form in ONNX that skl2onnx knows",
    "FunctionTransformer": "is not supported unless the transform function is None",
}


def row(kind, options, make, data, ends: Ends | None = None, **given) -> Case:
    arguments = given.pop("arguments", {})
    wanted = ends or expected(kind, options)
    return Case(SCIKIT, kind, options, lambda: table(make(), *DATA[data], **given), wanted, arguments)


def expected(kind, options) -> Ends:
    """As the tables above have it."""
    step = options.split(",")[0].split(" ")[0] if kind == "Pipeline" else ""
    words = REFUSED.get((kind, options)) or REFUSED_STEPS.get(step)
    return Refused(words) if words else Within()


class Own(BaseEstimator, RegressorMixin):
    """An estimator that no converter has ever heard of."""

    def fit(self, rows, target):
        self.n_features_in_ = rows.shape[1]
        return self

    def predict(self, rows):
        return np.asarray(rows).sum(axis=1)


def stopped_early() -> pipeline.Pipeline:
    """A pipeline whose booster has seen what it was not trained on."""
    scaler = preprocessing.StandardScaler().fit(NUMBERS)
    scaled = scaler.transform(NUMBERS)
    booster = XGBClassifier(n_estimators=60, early_stopping_rounds=3, learning_rate=0.8)
    booster.fit(scaled[:160], CLASSES[:160], eval_set=[(scaled[160:], CLASSES[160:])], verbose=False)
    return pipeline.Pipeline([("scale", scaler), ("boost", booster)])


DATA["doubles"] = (
    RNG_DOUBLES := np.random.default_rng(0).normal(size=(600, 4)),
    RNG_DOUBLES[:, 0] * 2 + RNG_DOUBLES[:, 1] ** 2,
)
DATA["cents"] = (np.round(RNG_DOUBLES * 10, 2), RNG_DOUBLES[:, 0])
DATA["near"] = (NUMBERS, 3000.0 + SCORE / 10)
DATA["apart"] = (NUMBERS, 1e5 + SCORE)
DATA["far apart"] = (NUMBERS, 1.7e9 + 600 * SCORE.astype(float))
DATA["numbered"] = (np.column_stack([20_000_001.0 + CODES[:, 0].astype(float), NUMBERS[:, 1:]]), CODED)
STEPS = np.random.default_rng(2)
DATA["five"] = (STEPS.normal(size=(300, 4)).astype(np.float32), STEPS.integers(0, 5, 300))
#: Seconds since 1970 beside a price, and two targets of other units.
SINCE = np.column_stack([1.7e9 + STEPS.integers(0, 600, 400), STEPS.normal(size=400)])
DATA["two units"] = (
    SINCE,
    np.column_stack([6e4 * (1 + 0.01 * SINCE[:, 1]), 1e-3 * (SINCE[:, 0] - 1.7e9) + 0.01 * SINCE[:, 1]]),
)
DECIMALS = np.round(STEPS.uniform(0, 1, (1000, 4)), 1)
DATA["decimals"] = (DECIMALS, STEPS.normal(size=1000))
DATA["several labels"] = (NUMBERS, np.column_stack([BINARY, CLASSES > 1]).astype(int))
DATA["never there"] = (np.column_stack([NUMBERS[:, :3], np.full(240, np.nan, np.float32)]), SCORE)
DATA["prices"] = (np.abs(NUMBERS) + 0.1, SCORE)


def own_objective(classes):
    """Of LightGBM: what a person writes who wants another loss."""

    def gradients(labels, scores):
        if classes == 2:
            return scores - labels, np.ones_like(scores)
        return scores - np.eye(classes)[labels.astype(int)], np.ones_like(scores)

    return gradients


def boosted_by_own(classes):
    return pipe(
        preprocessing.StandardScaler(), LGBMClassifier(n_estimators=3, objective=own_objective(classes), verbose=-1)
    )


ATTACKED = [
    row("SVC", "break_ties", lambda: svm.SVC(break_ties=True), "five", Refused("with break_ties")),
    row(
        "LinearRegression",
        "two targets of other units, rows logged",
        linear_model.LinearRegression,
        "two units",
        Refused("once they are rounded"),
        example=True,
    ),
    row(
        "KNeighborsRegressor",
        "decimals, rows logged, --precision fp64",
        neighbors.KNeighborsRegressor,
        "decimals",
        Refused("differs by"),
        example=True,
        arguments={"precision": "fp64"},
    ),
    row(
        "Pipeline",
        "StandardScaler, then XGBClassifier, several labels a row",
        lambda: pipe(preprocessing.StandardScaler(), XGBClassifier(n_estimators=3)),
        "several labels",
        Refused("answers 2 questions at once"),
    ),
    row(
        "Pipeline",
        "StandardScaler, then LGBMClassifier, an objective of one's own, three classes",
        lambda: boosted_by_own(3),
        "classes",
        Refused("answers with raw scores"),
    ),
    row(
        "Pipeline",
        "StandardScaler, then LGBMClassifier, an objective of one's own, two classes",
        lambda: boosted_by_own(2),
        "binary",
        Refused("answers with raw scores"),
    ),
    row(
        "BaggingClassifier",
        "over SVC",
        lambda: ensemble.BaggingClassifier(svm.SVC(), 3, **EACH),
        "binary",
        Refused("label"),
    ),
    row(
        "Pipeline",
        "StandardScaler, then RFE",
        lambda: pipe(
            preprocessing.StandardScaler(), feature_selection.RFE(linear_model.Ridge(), n_features_to_select=2)
        ),
        "score",
        Refused("output"),
    ),
    row(
        "StackingClassifier",
        "by its parts' labels",
        lambda: ensemble.StackingClassifier(
            [("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=3))],
            stack_method="predict",
        ),
        "classes",
        Refused("answers no"),
    ),
    row(
        "Pipeline",
        "SimpleImputer, a column that is never there, then Ridge",
        lambda: pipe(impute.SimpleImputer(), linear_model.Ridge()),
        "never there",
        Refused("answers no"),
    ),
    row(
        "Pipeline",
        "PowerTransformer, box-cox, then Ridge, rows logged",
        lambda: pipe(preprocessing.PowerTransformer("box-cox"), linear_model.Ridge()),
        "prices",
        example=True,
    ),
    row(
        "Pipeline",
        "StandardScaler, then MLPClassifier, --precision fp16",
        lambda: pipe(
            preprocessing.StandardScaler(),
            neural_network.MLPClassifier(hidden_layer_sizes=(8,), max_iter=60, **EACH),
        ),
        "classes",
        Within(2e-2),
        arguments={"precision": "fp16"},
    ),
    row(
        "HistGradientBoostingRegressor",
        "trained in double precision",
        ensemble.HistGradientBoostingRegressor,
        "doubles",
    ),
    row(
        "HistGradientBoostingRegressor",
        "trained in double precision, rows logged",
        ensemble.HistGradientBoostingRegressor,
        "doubles",
        example=True,
    ),
    row("HistGradientBoostingRegressor", "cents", ensemble.HistGradientBoostingRegressor, "cents"),
    row(
        "HistGradientBoostingRegressor",
        "categories above 2**24",
        lambda: ensemble.HistGradientBoostingRegressor(categorical_features=[0], max_iter=20),
        "numbered",
    ),
    row(
        "RandomForestRegressor",
        "answers near 1e5",
        lambda: ensemble.RandomForestRegressor(30, **EACH),
        "apart",
        Within(1e-7),
    ),
    row(
        "RandomForestRegressor",
        "answers near 1.7e9",
        lambda: ensemble.RandomForestRegressor(12, **EACH),
        "far apart",
    ),
    row("RandomForestRegressor", "answers near 3000", lambda: ensemble.RandomForestRegressor(30, **EACH), "near"),
    row(
        "SGDClassifier",
        "modified_huber, two classes",
        lambda: linear_model.SGDClassifier(loss="modified_huber", **EACH),
        "binary",
    ),
    row(
        "SGDClassifier",
        "modified_huber, three classes",
        lambda: linear_model.SGDClassifier(loss="modified_huber", **EACH),
        "classes",
    ),
    row(
        "VotingClassifier",
        "soft, with weights",
        lambda: ensemble.VotingClassifier(VOICES, voting="soft", weights=[1, 2]),
        "classes",
    ),
    row("VotingRegressor", "with weights", lambda: ensemble.VotingRegressor(VOTES, weights=[1, 2]), "score"),
    row(
        "RandomizedSearchCV",
        "",
        lambda: model_selection.RandomizedSearchCV(linear_model.Ridge(), {"alpha": [0.1, 1.0]}, n_iter=2, cv=2),
        "score",
    ),
    row(
        "CalibratedClassifierCV",
        "over LightGBM",
        lambda: calibration.CalibratedClassifierCV(LGBMClassifier(n_estimators=5, verbose=-1), cv=2),
        "binary",
    ),
    row(
        "CalibratedClassifierCV",
        "over LinearSVC",
        lambda: calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=2),
        "binary",
    ),
    row(
        "LinearDiscriminantAnalysis",
        "solver eigen, two classes",
        lambda: discriminant_analysis.LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto"),
        "binary",
    ),
    row(
        "Pipeline",
        "SelectKBest, then HistGradientBoostingRegressor, seconds since 1970",
        lambda: pipe(
            feature_selection.SelectKBest(feature_selection.f_regression, k=2),
            ensemble.HistGradientBoostingRegressor(max_iter=20),
        ),
        "later",
        Refused("are answered otherwise once they are rounded to float32"),
    ),
]
LINEAR = [
    row("LinearRegression", "", linear_model.LinearRegression, "score"),
    row("LinearRegression", "a table with names", linear_model.LinearRegression, "score", named=True),
    row("LinearRegression", "several targets", linear_model.LinearRegression, "targets"),
    row("LinearRegression", "answers near 1e-6", linear_model.LinearRegression, "tiny"),
    row("Lars", "", linear_model.Lars, "score"),
    row("LarsCV", "", linear_model.LarsCV, "score"),
    row("LassoLarsCV", "", linear_model.LassoLarsCV, "score"),
    row("LassoLarsIC", "", linear_model.LassoLarsIC, "score"),
    row("MultiTaskElasticNet", "", lambda: linear_model.MultiTaskElasticNet(0.1), "targets"),
    row("MultiTaskElasticNetCV", "", linear_model.MultiTaskElasticNetCV, "targets"),
    row("MultiTaskLassoCV", "", linear_model.MultiTaskLassoCV, "targets"),
    row("OrthogonalMatchingPursuitCV", "", linear_model.OrthogonalMatchingPursuitCV, "score"),
    row("PassiveAggressiveRegressor", "", linear_model.PassiveAggressiveRegressor, "score"),
    row("RidgeClassifierCV", "", linear_model.RidgeClassifierCV, "binary"),
    row("Ridge", "", linear_model.Ridge, "score"),
    row("RidgeCV", "", linear_model.RidgeCV, "score"),
    row("Lasso", "", lambda: linear_model.Lasso(0.1), "score"),
    row("LassoCV", "", linear_model.LassoCV, "score"),
    row("ElasticNet", "", lambda: linear_model.ElasticNet(0.1), "score"),
    row("ElasticNetCV", "", linear_model.ElasticNetCV, "score"),
    row("MultiTaskLasso", "", lambda: linear_model.MultiTaskLasso(0.1), "targets"),
    row("LassoLars", "", lambda: linear_model.LassoLars(0.01), "score"),
    row("OrthogonalMatchingPursuit", "", linear_model.OrthogonalMatchingPursuit, "score"),
    row("BayesianRidge", "", linear_model.BayesianRidge, "score"),
    row("ARDRegression", "", linear_model.ARDRegression, "score"),
    row("HuberRegressor", "", linear_model.HuberRegressor, "score"),
    row("TheilSenRegressor", "", lambda: linear_model.TheilSenRegressor(max_subpopulation=200, **EACH), "score"),
    row("RANSACRegressor", "", lambda: linear_model.RANSACRegressor(**EACH), "score"),
    row("QuantileRegressor", "", lambda: linear_model.QuantileRegressor(alpha=0.01), "score"),
    row("SGDRegressor", "", lambda: linear_model.SGDRegressor(**EACH), "score"),
    row("PoissonRegressor", "", linear_model.PoissonRegressor, "positive"),
    row("GammaRegressor", "", linear_model.GammaRegressor, "positive"),
    row("TweedieRegressor", "", lambda: linear_model.TweedieRegressor(power=1.5), "positive"),
    row("PLSRegression", "", PLSRegression, "targets"),
    row("LogisticRegression", "two classes", linear_model.LogisticRegression, "binary"),
    row("LogisticRegression", "three classes", linear_model.LogisticRegression, "classes"),
    row("LogisticRegression", "classes that are words", linear_model.LogisticRegression, "words"),
    row("LogisticRegression", "two classes that are words", linear_model.LogisticRegression, "two words"),
    row("LogisticRegression", "classes -5, 2, 9", linear_model.LogisticRegression, "far"),
    row("LogisticRegression", "a table with names", linear_model.LogisticRegression, "binary", named=True),
    row("LogisticRegressionCV", "", lambda: linear_model.LogisticRegressionCV(cv=3), "binary"),
    row("RidgeClassifier", "", linear_model.RidgeClassifier, "classes"),
    row("Perceptron", "", linear_model.Perceptron, "classes"),
    row("PassiveAggressiveClassifier", "", linear_model.PassiveAggressiveClassifier, "classes"),
    row("SGDClassifier", "log loss", lambda: linear_model.SGDClassifier(loss="log_loss", **EACH), "classes"),
    row("SGDClassifier", "hinge", lambda: linear_model.SGDClassifier(**EACH), "binary"),
    row("LinearSVC", "", svm.LinearSVC, "classes"),
    row("LinearSVC", "classes that are words", svm.LinearSVC, "words"),
    row("LinearSVR", "", svm.LinearSVR, "score"),
    row("LinearDiscriminantAnalysis", "", discriminant_analysis.LinearDiscriminantAnalysis, "classes"),
    row("QuadraticDiscriminantAnalysis", "", discriminant_analysis.QuadraticDiscriminantAnalysis, "classes"),
]

TREES = [
    row("DecisionTreeRegressor", "", lambda: tree.DecisionTreeRegressor(max_depth=7), "score"),
    row(
        "DecisionTreeRegressor",
        "trained with missing values",
        lambda: tree.DecisionTreeRegressor(max_depth=7),
        "gaps",
    ),
    row("DecisionTreeRegressor", "several targets", lambda: tree.DecisionTreeRegressor(max_depth=5), "targets"),
    row(
        "DecisionTreeClassifier",
        "two classes, missing values",
        lambda: tree.DecisionTreeClassifier(max_depth=7),
        "gaps two",
    ),
    row(
        "DecisionTreeClassifier",
        "three classes, missing values",
        lambda: tree.DecisionTreeClassifier(max_depth=7),
        "gaps three",
    ),
    row(
        "DecisionTreeClassifier",
        "classes that are true and false",
        lambda: tree.DecisionTreeClassifier(max_depth=5),
        "flags",
    ),
    row(
        "DecisionTreeClassifier",
        "classes 0.0, 1.0, 2.0",
        lambda: tree.DecisionTreeClassifier(max_depth=5),
        "halves",
    ),
    row("ExtraTreeClassifier", "", lambda: tree.ExtraTreeClassifier(max_depth=6, **EACH), "classes"),
    row("RadiusNeighborsClassifier", "", lambda: neighbors.RadiusNeighborsClassifier(radius=9.0), "classes"),
    row("ExtraTreeRegressor", "", lambda: tree.ExtraTreeRegressor(max_depth=6, **EACH), "score"),
    row("RandomForestRegressor", "", lambda: ensemble.RandomForestRegressor(12, **EACH), "score"),
    row(
        "RandomForestRegressor",
        "trained with missing values",
        lambda: ensemble.RandomForestRegressor(12, **EACH),
        "gaps",
    ),
    row("RandomForestRegressor", "answers near 1e-6", lambda: ensemble.RandomForestRegressor(12, **EACH), "tiny"),
    row("RandomForestRegressor", "several targets", lambda: ensemble.RandomForestRegressor(8, **EACH), "targets"),
    row("RandomForestRegressor", "seconds since 1970", lambda: ensemble.RandomForestRegressor(8, **EACH), "later"),
    row("RandomForestClassifier", "two classes", lambda: ensemble.RandomForestClassifier(12, **EACH), "binary"),
    row(
        "RandomForestClassifier",
        "two classes, missing values",
        lambda: ensemble.RandomForestClassifier(12, **EACH),
        "gaps two",
    ),
    row(
        "RandomForestClassifier",
        "three classes, missing values",
        lambda: ensemble.RandomForestClassifier(12, **EACH),
        "gaps three",
    ),
    row(
        "RandomForestClassifier",
        "classes that are words",
        lambda: ensemble.RandomForestClassifier(12, **EACH),
        "words",
    ),
    row(
        "RandomForestClassifier",
        "two classes that are words",
        lambda: ensemble.RandomForestClassifier(12, **EACH),
        "two words",
    ),
    row("RandomForestClassifier", "classes -5, 2, 9", lambda: ensemble.RandomForestClassifier(12, **EACH), "far"),
    row(
        "ExtraTreesRegressor",
        "trained with missing values",
        lambda: ensemble.ExtraTreesRegressor(12, **EACH),
        "gaps",
    ),
    row(
        "ExtraTreesClassifier",
        "two classes, missing values",
        lambda: ensemble.ExtraTreesClassifier(12, **EACH),
        "gaps two",
    ),
    row(
        "GradientBoostingRegressor",
        "",
        lambda: ensemble.GradientBoostingRegressor(n_estimators=20, **EACH),
        "score",
    ),
    row(
        "GradientBoostingClassifier",
        "two classes",
        lambda: ensemble.GradientBoostingClassifier(n_estimators=20, **EACH),
        "binary",
    ),
    row(
        "GradientBoostingClassifier",
        "three classes",
        lambda: ensemble.GradientBoostingClassifier(n_estimators=20, **EACH),
        "classes",
    ),
    row(
        "HistGradientBoostingRegressor",
        "trained with missing values",
        lambda: ensemble.HistGradientBoostingRegressor(max_iter=20),
        "gaps",
    ),
    row(
        "HistGradientBoostingRegressor",
        "categories",
        lambda: ensemble.HistGradientBoostingRegressor(max_iter=20, categorical_features=[0, 3]),
        "coded",
        fractions=True,
    ),
    row(
        "HistGradientBoostingRegressor",
        "seconds since 1970",
        lambda: ensemble.HistGradientBoostingRegressor(max_iter=20),
        "later",
    ),
    row(
        "HistGradientBoostingRegressor",
        "Poisson",
        lambda: ensemble.HistGradientBoostingRegressor(max_iter=20, loss="poisson"),
        "positive",
    ),
    row(
        "HistGradientBoostingClassifier",
        "two classes",
        lambda: ensemble.HistGradientBoostingClassifier(max_iter=20),
        "binary",
    ),
    row(
        "HistGradientBoostingClassifier",
        "three classes, missing values",
        lambda: ensemble.HistGradientBoostingClassifier(max_iter=20),
        "gaps three",
    ),
    row("AdaBoostClassifier", "", lambda: ensemble.AdaBoostClassifier(n_estimators=8, **EACH), "classes"),
    row("AdaBoostRegressor", "", lambda: ensemble.AdaBoostRegressor(n_estimators=8, **EACH), "score"),
    row(
        "BaggingClassifier",
        "trees, missing values",
        lambda: ensemble.BaggingClassifier(tree.DecisionTreeClassifier(max_depth=4), 5, **EACH),
        "gaps two",
    ),
    row(
        "BaggingRegressor",
        "",
        lambda: ensemble.BaggingRegressor(tree.DecisionTreeRegressor(max_depth=4), 5, **EACH),
        "score",
    ),
    row("IsolationForest", "", lambda: ensemble.IsolationForest(n_estimators=20, **EACH), "none"),
    row("RandomTreesEmbedding", "", lambda: ensemble.RandomTreesEmbedding(5, **EACH), "none"),
    row("RandomForestClassifier", "one class", lambda: ensemble.RandomForestClassifier(5, **EACH), "one"),
    row("RandomForestClassifier", "several targets", lambda: ensemble.RandomForestClassifier(5, **EACH), "labels"),
]
DATA["one"] = (NUMBERS, np.ones(len(NUMBERS), int))
DATA["labels"] = (NUMBERS, np.column_stack([BINARY, 1 - BINARY]))

VOTES = [("a", tree.DecisionTreeRegressor(max_depth=3)), ("b", linear_model.LinearRegression())]
VOICES = [("a", tree.DecisionTreeClassifier(max_depth=3)), ("b", linear_model.LogisticRegression())]
OTHERS = [
    row("KNeighborsRegressor", "", neighbors.KNeighborsRegressor, "score"),
    row("KNeighborsClassifier", "", neighbors.KNeighborsClassifier, "classes"),
    row("RadiusNeighborsRegressor", "", lambda: neighbors.RadiusNeighborsRegressor(radius=9.0), "score"),
    row("GaussianNB", "", naive_bayes.GaussianNB, "classes"),
    row("MultinomialNB", "", naive_bayes.MultinomialNB, "counts", Within(1e-3), example=True),
    row("ComplementNB", "", naive_bayes.ComplementNB, "counts", Within(1e-3), example=True),
    row("BernoulliNB", "", naive_bayes.BernoulliNB, "classes"),
    row("CategoricalNB", "", lambda: naive_bayes.CategoricalNB(min_categories=7), "counts", example=True),
    row("CategoricalNB", "no rows logged", lambda: naive_bayes.CategoricalNB(min_categories=7), "counts"),
    row("SVC", "with probabilities", lambda: svm.SVC(probability=True, **EACH), "classes"),
    row("SVC", "without probabilities", svm.SVC, "classes"),
    row("NuSVC", "", lambda: svm.NuSVC(nu=0.3), "binary"),
    row("SVR", "", svm.SVR, "score"),
    row("NuSVR", "", svm.NuSVR, "score"),
    row("OneClassSVM", "", svm.OneClassSVM, "none"),
    row("SGDOneClassSVM", "", lambda: linear_model.SGDOneClassSVM(**EACH), "none"),
    row(
        "MLPRegressor",
        "",
        lambda: neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=60, **EACH),
        "score",
    ),
    row(
        "MLPClassifier",
        "",
        lambda: neural_network.MLPClassifier(hidden_layer_sizes=(8,), max_iter=60, **EACH),
        "classes",
    ),
    row(
        "MLPClassifier",
        "two classes, tanh",
        lambda: neural_network.MLPClassifier(hidden_layer_sizes=(8,), activation="tanh", max_iter=60, **EACH),
        "binary",
    ),
    row("GaussianProcessRegressor", "", gaussian_process.GaussianProcessRegressor, "score"),
    row("GaussianProcessClassifier", "", gaussian_process.GaussianProcessClassifier, "binary"),
    row("GaussianMixture", "", lambda: mixture.GaussianMixture(3, **EACH), "none"),
    row("BayesianGaussianMixture", "", lambda: mixture.BayesianGaussianMixture(n_components=2, **EACH), "none"),
    row("KMeans", "", lambda: cluster.KMeans(3, n_init=2, **EACH), "none"),
    row("MiniBatchKMeans", "", lambda: cluster.MiniBatchKMeans(3, n_init=2, **EACH), "none"),
    row("LocalOutlierFactor", "novelty", lambda: neighbors.LocalOutlierFactor(novelty=True), "none"),
    row(
        "OneVsRestClassifier",
        "",
        lambda: multiclass.OneVsRestClassifier(linear_model.LogisticRegression()),
        "classes",
    ),
    row(
        "OneVsOneClassifier",
        "",
        lambda: multiclass.OneVsOneClassifier(linear_model.LogisticRegression()),
        "classes",
    ),
    row("MultiOutputRegressor", "", lambda: multioutput.MultiOutputRegressor(linear_model.Ridge()), "targets"),
    row(
        "MultiOutputClassifier",
        "",
        lambda: multioutput.MultiOutputClassifier(linear_model.LogisticRegression()),
        "labels",
    ),
    row(
        "CalibratedClassifierCV",
        "",
        lambda: calibration.CalibratedClassifierCV(linear_model.LogisticRegression(), cv=2),
        "binary",
    ),
    row(
        "CalibratedClassifierCV",
        "isotonic",
        lambda: calibration.CalibratedClassifierCV(naive_bayes.GaussianNB(), method="isotonic", cv=2),
        "binary",
    ),
    row("VotingRegressor", "", lambda: ensemble.VotingRegressor(VOTES), "score"),
    row("VotingClassifier", "soft", lambda: ensemble.VotingClassifier(VOICES, voting="soft"), "classes"),
    row("VotingClassifier", "hard", lambda: ensemble.VotingClassifier(VOICES), "classes"),
    row("StackingRegressor", "", lambda: ensemble.StackingRegressor(VOTES, cv=2), "score"),
    row("StackingClassifier", "", lambda: ensemble.StackingClassifier(VOICES, cv=2), "classes"),
    row(
        "GridSearchCV",
        "",
        lambda: model_selection.GridSearchCV(linear_model.Ridge(), {"alpha": [0.1, 1.0]}, cv=2),
        "score",
    ),
    row(
        "TunedThresholdClassifierCV",
        "",
        lambda: model_selection.TunedThresholdClassifierCV(linear_model.LogisticRegression(), cv=2),
        "binary",
    ),
    row(
        "TransformedTargetRegressor",
        "",
        lambda: compose.TransformedTargetRegressor(linear_model.Ridge(), func=np.log, inverse_func=np.exp),
        "positive",
    ),
    row("KernelRidge", "", KernelRidge, "score"),
    row("DummyRegressor", "", DummyRegressor, "score"),
    row("an estimator of one's own", "", Own, "score"),
]

FRAME = compose.make_column_transformer(
    (preprocessing.StandardScaler(), ["price", "spread"]), remainder="passthrough"
)
ONE_HOT = compose.make_column_transformer(
    (preprocessing.OneHotEncoder(handle_unknown="ignore"), [0, 3]), remainder="passthrough"
)
TRANSFORMERS = {
    "StandardScaler": (preprocessing.StandardScaler, "score"),
    "MinMaxScaler": (preprocessing.MinMaxScaler, "score"),
    "MinMaxScaler, clipped": (lambda: preprocessing.MinMaxScaler(clip=True), "score"),
    "MaxAbsScaler": (preprocessing.MaxAbsScaler, "score"),
    "RobustScaler": (preprocessing.RobustScaler, "score"),
    "Normalizer": (preprocessing.Normalizer, "score"),
    "Binarizer": (lambda: preprocessing.Binarizer(threshold=0.2), "score"),
    "PowerTransformer": (preprocessing.PowerTransformer, "score"),
    "QuantileTransformer": (lambda: preprocessing.QuantileTransformer(n_quantiles=50), "score"),
    "KBinsDiscretizer": (lambda: preprocessing.KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf"), "score"),
    "PolynomialFeatures": (preprocessing.PolynomialFeatures, "score"),
    "SplineTransformer": (preprocessing.SplineTransformer, "score"),
    "SimpleImputer": (impute.SimpleImputer, "gaps"),
    "KNNImputer": (impute.KNNImputer, "gaps"),
    "MissingIndicator beside an imputer": (lambda: union(impute.SimpleImputer(), impute.MissingIndicator()), "gaps"),
    "OneHotEncoder of two columns": (lambda: ONE_HOT, "coded"),
    "OrdinalEncoder": (lambda: compose.make_column_transformer((preprocessing.OrdinalEncoder(), [0, 3]), remainder="passthrough"), "coded"),
    "TargetEncoder": (lambda: compose.make_column_transformer((preprocessing.TargetEncoder(cv=2, random_state=0), [0]), remainder="passthrough"), "coded"),
    "IncrementalPCA": (lambda: decomposition.IncrementalPCA(2), "score"),
    "GaussianRandomProjection": (lambda: random_projection.GaussianRandomProjection(3, **EACH), "score"),
    "NeighborhoodComponentsAnalysis": (lambda: neighbors.NeighborhoodComponentsAnalysis(2, **EACH), "classes"),
    "GenericUnivariateSelect": (lambda: feature_selection.GenericUnivariateSelect(feature_selection.f_regression), "score"),
    "RFECV": (lambda: feature_selection.RFECV(linear_model.LinearRegression(), cv=2), "score"),
    "SelectPercentile": (lambda: feature_selection.SelectPercentile(feature_selection.f_regression, percentile=50), "score"),
    "SelectFpr": (lambda: feature_selection.SelectFpr(feature_selection.f_regression), "score"),
    "SelectFdr": (lambda: feature_selection.SelectFdr(feature_selection.f_regression), "score"),
    "SelectFwe": (lambda: feature_selection.SelectFwe(feature_selection.f_regression), "score"),
    "PCA": (lambda: decomposition.PCA(3), "score"),
    "TruncatedSVD": (lambda: decomposition.TruncatedSVD(2), "score"),
    "KernelPCA": (lambda: decomposition.KernelPCA(2, kernel="rbf"), "score"),
    "SelectKBest": (lambda: feature_selection.SelectKBest(feature_selection.f_regression, k=2), "score"),
    "SelectFromModel that keeps the first column": (lambda: feature_selection.SelectFromModel(linear_model.LinearRegression(), max_features=1, threshold=-np.inf), "score"),
    "VarianceThreshold": (feature_selection.VarianceThreshold, "score"),
    "RFE": (lambda: feature_selection.RFE(linear_model.LinearRegression(), n_features_to_select=2), "score"),
    "RBFSampler": (lambda: kernel_approximation.RBFSampler(n_components=8, **EACH), "score"),
    "FunctionTransformer, a function of one's own": (lambda: preprocessing.FunctionTransformer(np.log1p), "counts"),
    "FeatureUnion": (lambda: union(preprocessing.StandardScaler(), decomposition.PCA(2)), "score"),
}  # fmt: skip
PIPELINES = [
    row(
        "Pipeline",
        f"{name}, then Ridge",
        lambda make=make: pipe(make(), linear_model.Ridge()),
        data,
        example="Encoder" in name,
    )
    for name, (make, data) in TRANSFORMERS.items()
] + [
    row(
        "Pipeline",
        "StandardScaler, then a forest with missing values",
        lambda: pipe(preprocessing.StandardScaler(), ensemble.RandomForestRegressor(12, **EACH)),
        "gaps",
    ),
    row(
        "Pipeline",
        "ColumnTransformer, columns by their names",
        lambda: pipe(FRAME, linear_model.Ridge()),
        "score",
        named=True,
    ),
    row(
        "Pipeline",
        "StandardScaler, then XGBRegressor",
        lambda: pipe(preprocessing.StandardScaler(), XGBRegressor(n_estimators=8)),
        "gaps",
    ),
    row(
        "Pipeline",
        "StandardScaler, then XGBClassifier",
        lambda: pipe(preprocessing.StandardScaler(), XGBClassifier(n_estimators=8)),
        "classes",
    ),
    row(
        "Pipeline",
        "StandardScaler, then LGBMRegressor",
        lambda: pipe(preprocessing.StandardScaler(), LGBMRegressor(n_estimators=8, verbose=-1)),
        "gaps",
    ),
    row(
        "Pipeline",
        "StandardScaler, then LGBMClassifier",
        lambda: pipe(preprocessing.StandardScaler(), LGBMClassifier(n_estimators=8, verbose=-1)),
        "classes",
    ),
    row(
        "StackingClassifier",
        "XGBoost and LightGBM within",
        lambda: ensemble.StackingClassifier(
            [("a", XGBClassifier(n_estimators=5)), ("b", LGBMClassifier(n_estimators=5, verbose=-1))], cv=2
        ),
        "binary",
    ),
    row("PCA", "a transformer alone", lambda: decomposition.PCA(2), "none"),
    row("StandardScaler", "a transformer alone", preprocessing.StandardScaler, "none"),
    row("IsotonicRegression", "", lambda: IsotonicRegression(out_of_bounds="clip"), "one column"),
]
DATA["one column"] = (NUMBERS[:, :1].copy(), SCORE)

DOUBLE = {"arguments": {"precision": "fp64"}}
IN_DOUBLE = [
    row("KNeighborsRegressor", "--precision fp64", neighbors.KNeighborsRegressor, "score", **DOUBLE),
    row("KNeighborsClassifier", "--precision fp64", neighbors.KNeighborsClassifier, "classes", **DOUBLE),
    row("MultinomialNB", "--precision fp64", naive_bayes.MultinomialNB, "counts", **DOUBLE),
    row(
        "GaussianProcessRegressor", "--precision fp64", gaussian_process.GaussianProcessRegressor, "score", **DOUBLE
    ),
    row(
        "LocalOutlierFactor",
        "--precision fp64",
        lambda: neighbors.LocalOutlierFactor(novelty=True),
        "none",
        **DOUBLE,
    ),
    row(
        "HistGradientBoostingRegressor",
        "seconds since 1970, --precision fp64",
        lambda: ensemble.HistGradientBoostingRegressor(max_iter=20),
        "later",
        **DOUBLE,
    ),
    row("LinearRegression", "seconds since 1970", linear_model.LinearRegression, "later", example=True),
    row(
        "LinearRegression", "seconds since 1970, --precision fp64", linear_model.LinearRegression, "later", **DOUBLE
    ),
    row(
        "HistGradientBoostingRegressor",
        "seconds since 1970, rows logged",
        lambda: ensemble.HistGradientBoostingRegressor(max_iter=20),
        "later",
        example=True,
    ),
    row(
        "RandomForestRegressor",
        "--precision fp64",
        lambda: ensemble.RandomForestRegressor(12, **EACH),
        "gaps",
        **DOUBLE,
    ),
    row(
        "RandomForestClassifier",
        "--precision fp64",
        lambda: ensemble.RandomForestClassifier(12, **EACH),
        "gaps two",
        **DOUBLE,
    ),
    row("SVR", "--precision fp64", svm.SVR, "score", **DOUBLE),
    row("SVC", "--precision fp64", svm.SVC, "classes", **DOUBLE),
    row(
        "MLPClassifier",
        "--precision fp64",
        lambda: neural_network.MLPClassifier(hidden_layer_sizes=(8,), max_iter=60, **EACH),
        "classes",
        **DOUBLE,
    ),
    row(
        "Pipeline",
        "Normalizer, then Ridge, --precision fp64",
        lambda: pipe(preprocessing.Normalizer(), linear_model.Ridge()),
        "score",
        **DOUBLE,
    ),
    row(
        "Pipeline",
        "StandardScaler, then XGBRegressor, --precision fp64",
        lambda: pipe(preprocessing.StandardScaler(), XGBRegressor(n_estimators=8)),
        "gaps",
        **DOUBLE,
    ),
    row(
        "Pipeline",
        "StandardScaler, then LGBMClassifier, --precision fp64",
        lambda: pipe(preprocessing.StandardScaler(), LGBMClassifier(n_estimators=8, verbose=-1)),
        "classes",
        **DOUBLE,
    ),
    row(
        "Pipeline",
        "columns by their names, --precision fp64",
        lambda: pipe(FRAME, linear_model.Ridge()),
        "score",
        named=True,
        **DOUBLE,
    ),
]

EARLY = row("Pipeline", "StandardScaler, then XGBClassifier, stopped early", stopped_early, "classes", fitted=True)
COLUMNWISE = {"arguments": {"as_columns": True}}
BY_COLUMN = [
    row(
        "LinearRegression",
        "a table with names, --inputs columns",
        linear_model.LinearRegression,
        "score",
        named=True,
        **COLUMNWISE,
    ),
    row(
        "RandomForestClassifier",
        "missing values, --inputs columns",
        lambda: ensemble.RandomForestClassifier(12, **EACH),
        "gaps two",
        named=True,
        **COLUMNWISE,
    ),
    row(
        "Pipeline",
        "ColumnTransformer, columns by their names, --inputs columns",
        lambda: pipe(FRAME, linear_model.Ridge()),
        "score",
        named=True,
        **COLUMNWISE,
    ),
    row(
        "LinearRegression",
        "no names, --inputs columns",
        linear_model.LinearRegression,
        "score",
        Refused("its signature names no columns"),
        **COLUMNWISE,
    ),
]
CASES = [*ATTACKED, *BY_COLUMN, EARLY, *IN_DOUBLE, *LINEAR, *TREES, *OTHERS, *PIPELINES]

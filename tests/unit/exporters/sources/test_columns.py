"""A signature must name the columns that the model was trained on, in their order: by their place they are served."""

from __future__ import annotations

import warnings

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from exporters.errors import ExportError
from exporters.export import export_model
from exporters.repository.repository import ModelRepository
from exporters.sources.running import run_file
from tests.unit.exporters.models import options

RNG = np.random.default_rng(3)
TABLE = pd.DataFrame(RNG.normal(size=(200, 3)), columns=["bid size", "ask", "mid"])
VALUES = (TABLE["bid size"] - 2 * TABLE["ask"] + 10 * TABLE["mid"]).to_numpy()


def fitted(kind, rows):
    made = {
        "sklearn": lambda: make_pipeline(StandardScaler(), LinearRegression()).fit(rows, VALUES),
        "xgboost": lambda: xgboost.XGBRegressor(n_estimators=5).fit(rows, VALUES),
        "booster": lambda: xgboost.train({}, xgboost.DMatrix(rows, VALUES), 5),
        "lightgbm": lambda: lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(rows, VALUES).booster_,
    }
    return made[kind]()


def export(tmp_path, kind, model, signature_of):
    module = {"booster": mlflow.xgboost}.get(kind) or getattr(mlflow, kind)
    folder = tmp_path / "logged"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.save_model(
            model, str(folder), signature=infer_signature(signature_of, VALUES), pip_requirements=["numpy"]
        )
    repository = ModelRepository(tmp_path / "models")
    return repository, export_model(str(folder), options(max_batch=8), repository, lambda _: None)


@pytest.mark.parametrize("kind", ["sklearn", "xgboost", "booster", "lightgbm"])
@pytest.mark.parametrize(
    ("signature_of", "says"),
    [
        (
            TABLE[["mid", "ask", "bid size"]],
            "columns in another order: number 1 is 'mid'.* trained on 'bid.size' there",
        ),
        (TABLE.rename(columns={"ask": "asked"}), "columns under other names: number 2 is 'asked'.* on 'ask' there"),
        (TABLE[["bid size", "ask"]], "signature has 2 columns, and the model was trained on 3"),
        (TABLE.assign(more=1.0), "signature has 4 columns, and the model was trained on 3"),
    ],
)
def test_a_signature_that_is_not_the_models_is_refused(tmp_path, kind, signature_of, says):
    with pytest.raises(ExportError, match=says):
        export(tmp_path, kind, fitted(kind, TABLE), signature_of)


@pytest.mark.parametrize("kind", ["sklearn", "xgboost", "booster", "lightgbm"])
@pytest.mark.parametrize("trained", [TABLE, TABLE.to_numpy()], ids=["table", "matrix"])
@pytest.mark.parametrize("signature_of", [TABLE, TABLE.to_numpy()], ids=["table", "matrix"])
def test_one_that_is_is_served_with_the_models_answers(tmp_path, kind, trained, signature_of):
    model = fitted(kind, trained)
    repository, done = export(tmp_path, kind, model, signature_of)
    contract = repository.lineage(done.name, 1).contract
    rows = TABLE.to_numpy().astype(np.float32)
    (answers,) = run_file(contract, repository.folder(done.name, 1) / contract.file_name)([rows])
    asked = xgboost.DMatrix(TABLE if isinstance(trained, pd.DataFrame) else rows) if kind == "booster" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = model.predict(rows if asked is None else asked)
    np.testing.assert_allclose(answers[:, 0], wanted, rtol=1e-4, atol=1e-4)

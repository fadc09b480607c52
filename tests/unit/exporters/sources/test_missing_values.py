"""A release asks the server about missing values where the model answers such rows, and not where it does not."""

from __future__ import annotations

import warnings

import mlflow
import numpy as np
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from exporters.export import export_model
from exporters.repository.repository import ModelRepository
from tests.conformance.cases import GAPS, MISSING
from tests.unit.exporters.models import options


def golden(tmp_path, model, rows):
    folder, repository = tmp_path / "logged", ModelRepository(tmp_path / "models")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            model, str(folder), serialization_format="cloudpickle",
            signature=infer_signature(rows, model.predict(rows)), pip_requirements=["numpy"],
        )  # fmt: skip
    done = export_model(str(folder), options(max_batch=64, trust=True), repository, lambda _: None)
    ((asked,), (answers,)) = repository.golden(repository.lineage(done.name, 1).contract, 1)
    assert np.isfinite(answers).all()
    return asked


def test_where_it_answers_such_rows(tmp_path):
    assert np.isnan(golden(tmp_path, DecisionTreeRegressor(max_depth=5).fit(MISSING, GAPS), MISSING)).any()


def test_where_it_does_not(tmp_path):
    rows = np.nan_to_num(MISSING)
    assert np.isfinite(golden(tmp_path, LinearRegression().fit(rows, GAPS), rows)).all()

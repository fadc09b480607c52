"""Rows of each library, from a real MLflow to a real Triton, which answers as the library does."""

from __future__ import annotations

import re

import mlflow
import pytest

from exporters.export import export_model
from exporters.formats.config_pbtxt import Serving
from exporters.options import Options
from exporters.profiles import find, find_gpu
from exporters.release.journal import Recovered
from exporters.release.releases import Releases
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from tests.conformance import judge
from tests.conformance.table import CASES

pytestmark = pytest.mark.slow
NAMES = [
    "scikit-learn LinearRegression answers near 1e-6",
    "scikit-learn LogisticRegression classes that are words",
    "scikit-learn RandomForestClassifier two classes that are words",
    "scikit-learn RandomForestRegressor trained with missing values",
    "scikit-learn RandomForestClassifier missing values, --inputs columns",
    "scikit-learn HistGradientBoostingRegressor categories",
    "scikit-learn HistGradientBoostingRegressor seconds since 1970, --precision fp64",
    "scikit-learn KNeighborsClassifier --precision fp64",
    "scikit-learn IsolationForest",
    "scikit-learn Pipeline ColumnTransformer, columns by their names",
    "scikit-learn Pipeline StandardScaler, then XGBRegressor",
    "scikit-learn StackingClassifier XGBoost and LightGBM within",
    "XGBoost Booster stopped early",
    "XGBoost Booster categories",
    "XGBoost XGBClassifier three classes",
    "LightGBM Booster zero_as_missing",
    "LightGBM Booster boosting=rf",
    "LightGBM LGBMClassifier classes that are words",
    "PyTorch LSTM pickle",
    "PyTorch two outputs a dict, pickle",
    "PyTorch one number a row without an axis, script",
    "PyTorch a branch on missing values pickle",
    "PyTorch BatchNorm and Dropout scripted in training mode, --format torchscript",
]
#: A change does not wait for the others.
SHORT = {
    "scikit-learn RandomForestClassifier missing values, --inputs columns",
    "scikit-learn HistGradientBoostingRegressor seconds since 1970, --precision fp64",
    "XGBoost Booster categories",
    "LightGBM LGBMClassifier classes that are words",
    "PyTorch LSTM pickle",
    "PyTorch BatchNorm and Dropout scripted in training mode, --format torchscript",
}
assert set(NAMES) >= SHORT


@pytest.fixture(scope="module")
def release(stack):
    """Exports and releases what it is given, by a name; unloads all of them afterwards."""
    repository, server = ModelRepository(stack.model_repository), TritonServer(stack.triton_grpc)
    releases = Releases(repository, server, find_gpu("rtx5070"), lambda _: None)
    names = []

    def release(reference, name, arguments):
        options = Options(
            stack.mlflow_uri, find("25.03-py3"), find_gpu("rtx5070"), name=name, max_batch=judge.LARGEST, trust=True,
            **arguments,
        )  # fmt: skip
        done = export_model(reference, options, repository, lambda _: None)
        names.append(done.name)
        releases.release(done.name, done.version)
        contract = repository.lineage(done.name, done.version).contract
        path = repository.folder(done.name, done.version) / contract.file_name
        return path, contract, server.run(contract, done.version)

    yield release
    assert releases.recover() == Recovered([], [])
    for name in names:
        server.unload(name)
        repository.configure(repository.lineage(name, 1).contract, Serving())
    server.close()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SHORT else pytest.mark.long) for name in NAMES]
)
def test_it_is_served_as_its_library_answers(name, release, stack, tmp_path):
    (case,) = (c for c in CASES if c.name == name)
    model = case.make()
    model.save(tmp_path / "logged")
    mlflow.set_tracking_uri(stack.mlflow_uri)
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(tmp_path / "logged"), "model")
    plain = "row_" + re.sub(r"[^a-z0-9]+", "_", name.lower())
    path, contract, asked = release(f"runs:/{run.info.run_id}/model", plain, case.arguments)
    judge.check(case, model, path, contract, asked)

"""What once was published with a good parity, and wrong: asked of the server that serves it, against its own library."""

from __future__ import annotations

import json
import re
import warnings

import mlflow
import numpy as np
import onnx
import pytest
import torch
import xgboost
from mlflow.models import infer_signature
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from exporters.export import export_model
from exporters.formats.config_pbtxt import Serving
from exporters.options import Options
from exporters.profiles import find, find_gpu
from exporters.release.journal import Recovered
from exporters.release.releases import Releases
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from exporters.sources.running import run_file
from tests.conformance.cases import GAPS, MISSING
from tests.paths import ROOT
from tests.unit.exporters.models import times
from tests.unit.exporters.sources.test_opened import Repairs

RNG = np.random.default_rng(4)
ROWS = RNG.normal(size=(300, 4)).astype(np.float32)
SCORE = ROWS[:, 0] - ROWS[:, 1] * ROWS[:, 2]


@pytest.fixture
def served(stack):
    """Exports and releases what it is given, and asks the server; it is unloaded afterwards."""
    repository, server = ModelRepository(stack.model_repository), TritonServer(stack.triton_grpc)
    releases = Releases(repository, server, find_gpu("rtx5070"), lambda _: None)
    options = Options(stack.mlflow_uri, find("25.03-py3"), find_gpu("rtx5070"), max_batch=64, trust=True)
    names = []

    def serve(path):
        done = export_model(str(path), options, repository, lambda _: None)
        names.append(done.name)
        releases.release(done.name, done.version)
        contract = repository.lineage(done.name, done.version).contract
        asked = server.run(contract, done.version)

        def ask(rows):
            parts = [asked([rows[k : k + 64]]) for k in range(0, len(rows), 64)]
            return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

        return ask

    yield serve
    assert releases.recover() == Recovered([], [])
    for name in names:
        server.unload(name)
        repository.configure(repository.lineage(name, 1).contract, Serving())
    server.close()


def save(flavour, folder, model, rows, answers, **given):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flavour.save_model(
            model, str(folder), signature=infer_signature(rows, answers), pip_requirements=["numpy"], **given
        )
    return folder


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestRegressor(12, random_state=0),
        RandomForestClassifier(12, random_state=0),
        DecisionTreeClassifier(max_depth=7),
    ],
    ids=lambda e: type(e).__name__,
)
def test_missing_values(served, tmp_path, estimator):
    is_classifier = hasattr(estimator, "predict_proba")
    model = estimator.fit(MISSING, GAPS > 0.5 if is_classifier else GAPS)
    ask = served(
        save(
            mlflow.sklearn, tmp_path / f"served_{type(model).__name__}", model, MISSING, GAPS,
            serialization_format="cloudpickle",
        )
    )  # fmt: skip
    wanted = model.predict_proba(MISSING) if is_classifier else model.predict(MISSING).reshape(-1, 1)
    assert np.isnan(MISSING).any()
    np.testing.assert_allclose(ask(MISSING)[-1], wanted, rtol=1e-4, atol=1e-5)


def test_a_booster_that_stopped_early(served, tmp_path):
    held_out = xgboost.DMatrix(ROWS[200:], SCORE[200:])
    model = xgboost.train(
        {"eta": 0.8, "nthread": 1}, xgboost.DMatrix(ROWS[:200], SCORE[:200]), 50, evals=[(held_out, "test")],
        early_stopping_rounds=10, verbose_eval=False,
    )  # fmt: skip
    ask = served(save(mlflow.xgboost, tmp_path / "served_booster", model, ROWS, SCORE))
    wanted = model.predict(xgboost.DMatrix(ROWS))
    best = model.predict(xgboost.DMatrix(ROWS), iteration_range=(0, model.best_iteration + 1))
    assert np.abs(wanted - best).max() > 1e-3
    np.testing.assert_allclose(ask(ROWS)[0][:, 0], wanted, rtol=1e-5, atol=1e-5)


def test_a_branch_that_a_trace_would_lose(served, tmp_path):
    rows = ROWS.copy()
    rows[::3, 1] = np.nan
    folder = save(
        mlflow.pytorch, tmp_path / "served_branch", Repairs(), ROWS, 2 * ROWS, serialization_format="pickle"
    )
    ask = served(folder)
    wanted = Repairs()(torch.from_numpy(rows)).numpy()
    assert np.isfinite(wanted).all()
    np.testing.assert_array_equal(ask(rows)[0], wanted)


@pytest.mark.parametrize("name", ["model/input", "../../escaped", "/tmp/escaped"])
def test_a_name_that_would_be_a_path(served, tmp_path, name):
    model = times(3.0)
    model.graph.input[0].name = model.graph.node[0].input[0] = name
    path = tmp_path / f"served_name_{len(name)}.onnx"
    onnx.save(model, path)
    ask = served(path)
    np.testing.assert_array_equal(ask(ROWS)[0], 3 * ROWS)


def test_the_pages_example_is_answered(served, stack, tmp_path, capsys):
    model = LogisticRegression().fit(ROWS, SCORE > 0)
    served(save(mlflow.sklearn, tmp_path / "fraud", model, ROWS, model.predict(ROWS)))
    page = (ROOT / "docs/exporting.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "127.0.0.1:8001" in example
    exec(example.replace("127.0.0.1:8001", stack.triton_grpc), {})
    shown = np.array(
        json.loads(re.sub(r"\s+", ",", capsys.readouterr().out.strip()).replace("[,", "[").replace(",]", "]"))
    )
    np.testing.assert_allclose(shown, model.predict_proba(np.zeros((3, 4))), atol=1e-6)


class Deep(torch.nn.Module):
    """Convolutions whose errors add up, as those of public image and audio networks do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = []
        for width, made in ((3, 16), *[(16, 16)] * 10):
            layers += [torch.nn.Conv2d(width, made, 3, padding=1), torch.nn.BatchNorm2d(made), torch.nn.SiLU()]
        self.layers = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(16 * 24 * 24, 5))

    def forward(self, image):
        return self.layers(image)


def test_the_server_optimises_a_network_as_its_configuration_says(stack, served, tmp_path):
    """What changes the layout of tensors, as ONNX Runtime does by default, answers otherwise than what was proven."""
    images = RNG.normal(size=(4, 3, 24, 24)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Deep().eval(), (torch.from_numpy(images),), str(tmp_path / "deep.onnx"), dynamo=False, input_names=["image"],
            output_names=["score"], dynamic_axes={"image": {0: "batch"}, "score": {0: "batch"}},
        )  # fmt: skip
    found = served(tmp_path / "deep.onnx")(images)
    repository = ModelRepository(stack.model_repository)
    contract = repository.lineage("deep", 1).contract
    wanted = run_file(contract, repository.folder("deep", 1) / "model.onnx")([images])
    np.testing.assert_array_equal(found[0], wanted[0])

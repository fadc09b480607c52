"""Whatever is served, asked as callers ask it: `ultrathink infer`, and each example of docs/inference.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
import torch

from connectors.triton.asking import ModelClient
from exporters.export import export_model
from exporters.profiles import find_gpu
from exporters.release.releases import Releases
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from stack.workflows.export_workflow import export
from tests.paths import ROOT
from tests.unit.exporters.models import options, publish_times
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.models.signature import TRADING_DECISION

PAGE = (ROOT / "docs" / "inference.md").read_text()
SOURCE = "simulate:crash?seed=3"


@pytest.fixture(scope="module")
def served(stack, trained):
    """The pipeline as an ensemble and as one graph."""
    export(lambda _: None, fuse=True)
    return stack


def infer(stack, *words, code=0):
    done = subprocess.run(
        [f"{ROOT}/.venv/bin/ultrathink", "infer", *words],
        check=False, capture_output=True, text=True,
        env={**os.environ, "ULTRATHINK_HOME": str(stack.home)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


def test_a_markets_features_are_asked_and_both_protocols_answer_alike(served):
    words = (TRADING_DECISION.name, "--source", SOURCE, "--limit", "70", "--json")
    by_grpc, by_http = (json.loads(infer(served, *words, "--protocol", p).stdout) for p in ("grpc", "http"))
    assert by_grpc["rows"] == by_http["rows"]
    assert len(by_grpc["rows"]) == 70
    row = by_grpc["rows"][-1]
    assert set(row) == {"symbol", "time", *(t.name for t in TRADING_DECISION.outputs)}
    assert sum(row["regime_probabilities"]) == pytest.approx(1.0, abs=1e-5)


def test_one_output_of_an_ensemble_and_a_table_for_people(served):
    told = infer(served, TRADING_DECISION.name, "--source", SOURCE, "--output", "target_position").stdout
    lines = told.splitlines()
    assert lines[0].startswith("trading_decision ")
    assert lines[1].split() == ["symbol", "time", "target_position"]
    assert lines[-1].startswith("10 rows in 1 requests")


def test_rows_of_a_file_are_asked_in_batches_and_kept(served, tmp_path):
    rows = np.random.default_rng(1).normal(size=(2_500, 32)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    for name in ("answers.parquet", "answers.csv", "answers.npz", "answers.jsonl"):
        told = infer(
            served, "trading_decision_fused", "--rows", str(tmp_path / "rows.npy"), "--out", str(tmp_path / name)
        ).stdout
        assert "2,500 rows in 3 requests" in told
    targets = np.load(tmp_path / "answers.npz")["target_position"][:, 0]
    assert np.allclose(pd.read_parquet(tmp_path / "answers.parquet")["target_position"], targets)
    assert np.allclose(pd.read_csv(tmp_path / "answers.csv")["target_position"], targets)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["rows.npy", "answers.parquet", "answers.csv", "answers.npz", "answers.jsonl"]
    )


def test_a_model_that_is_not_ours(served, tmp_path):
    repository = ModelRepository(served.model_repository)
    version = publish_times(repository, tmp_path, 2.0, name="double")
    Releases(repository, TritonServer(served.triton_grpc), find_gpu("rtx5070"), lambda _: None).release(
        "double", version
    )
    (tmp_path / "rows.csv").write_text("a,b,c,d\n1,2,3,4\n5,6,7,8\n")
    found = json.loads(infer(served, "double", "--rows", str(tmp_path / "rows.csv"), "--json").stdout)
    assert [row["y"] for row in found["rows"]] == [[2.0, 4.0, 6.0, 8.0], [10.0, 12.0, 14.0, 16.0]]
    for words, says in (
        (("double", "--source", SOURCE), r"takes x \[4\].*give rows of its own with --rows"),
        (("double", "--rows", str(tmp_path / "absent.csv")), "No such file"),
        (("double", "--rows", str(tmp_path / "rows.csv"), "--output", "z"), "no output 'z': its outputs are y"),
        (("double", "--rows", str(tmp_path / "rows.csv"), "--model-version", "9"), "refuses double"),
        (("nosuch", "--rows", str(tmp_path / "rows.csv")), "refuses nosuch"),
        (("double",), "give either"),
        (("double", "--rows", str(tmp_path / "rows.csv"), "--out", "x.doc"), "written as one of"),
    ):
        assert re.search(says, infer(served, *words, code=2).stderr.replace("\n", " "))


class Venues(torch.nn.Module):
    """Prices, and a place's number, of which there are eight."""

    def __init__(self):
        super().__init__()
        self.places, self.mix = torch.nn.Embedding(8, 3), torch.nn.Linear(7, 2)

    def forward(self, prices, venue):
        return self.mix(torch.cat([prices, self.places(venue[:, 0])], dim=1))


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_a_network_that_looks_numbers_up_is_released_from_a_file(served, tmp_path, kind):
    """Whatever warms it up must be numbers that it has: Triton's random ones are none."""
    torch.jit.trace(Venues().eval(), (torch.ones(3, 4), torch.ones(3, 1, dtype=torch.int64))).save(
        str(tmp_path / "venues.pt")
    )
    random = np.random.default_rng(3)
    np.savez(tmp_path / "rows.npz", prices=random.normal(size=(200, 4)), venue=random.integers(0, 8, 200))
    repository, name = ModelRepository(served.model_repository), f"venues_{kind}"
    given = options(sample=tmp_path / "rows.npz", name=name, format=kind, max_batch=64)
    version = export_model(str(tmp_path / "venues.pt"), given, repository, lambda _: None).version
    with closing(TritonServer(served.triton_grpc)) as triton:
        found = Releases(repository, triton, find_gpu("rtx5070"), lambda _: None).release(name, version)
    assert (found.task, found.rank_correlation) == ("value", pytest.approx(1.0))
    told = json.loads(infer(served, name, "--rows", str(tmp_path / "rows.npz"), "--limit", "5", "--json").stdout)
    assert len(told["rows"]) == 5


def test_a_server_that_is_not_there_is_a_sentence(stack):
    for protocol in ("grpc", "http"):
        done = infer(stack, "x", "--rows", "r.npy", "--protocol", protocol, "--triton-url", "127.0.0.1:9", code=1)
        assert f"does not answer by {protocol}" in done.stderr.replace("\n", " ")
    with ModelClient("127.0.0.1:9", timeout_s=0.5) as client, pytest.raises(ServiceUnavailable):
        client.model("x")


def test_rows_that_do_not_fit_are_named_before_they_are_sent(served):
    with ModelClient(served.triton_grpc) as client:
        model = client.model("trading_decision_fused")
        assert model.max_batch == 1024
        for rows, says in (
            ({"x": np.zeros((1, 32))}, "no rows are given for features"),
            ({"features": np.zeros((1, 31))}, r"takes \[32\] a row for features, and the rows have \[31\]"),
        ):
            with pytest.raises(ConfigurationError, match=says):
                client.infer(model, rows)


@pytest.mark.parametrize("number", range(4))
def test_an_example_in_python_runs_as_it_stands(served, number):
    text = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[number]
    done = subprocess.run(
        [sys.executable, "-c", at(served, text)], check=False, capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert not done.stderr
    assert re.search(r"-?\d\.\d", done.stdout)


def test_the_example_for_curl_runs_as_it_stands(served):
    (text,) = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    done = subprocess.run(["bash", "-c", at(served, text)], check=False, capture_output=True, text=True, timeout=60)
    (output,) = json.loads(done.stdout)["outputs"]
    assert (output["name"], output["shape"]) == ("target_position", [1, 1])


def test_the_ten_lines_of_the_page_on_python_run_as_they_stand(served):
    """And the function that decodes decisions is one."""
    examples = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/python.md").read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", at(served, "\n".join(examples))], check=False, capture_output=True, text=True,
        cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert not done.stderr
    assert done.stdout.split()[-1] in {"accept", "clip", "deny"}


def test_the_notebook_runs_from_its_first_cell_to_its_last(served):
    cells = json.loads((ROOT / "docs/python.ipynb").read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", at(served, text)], check=False, capture_output=True, text=True,
        cwd=ROOT, timeout=60, env={**os.environ, "MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert not done.stderr
    kept = [
        "".join(out["text"]) for cell in cells for out in cell.get("outputs", []) if out["output_type"] == "stream"
    ]
    assert len(kept) == 4
    # What is kept in it is what it prints; which answers depends on what was trained.
    assert done.stdout.splitlines()[:2] == "".join(kept).splitlines()[:2]


def at(stack, text):
    """An example on this stack's ports."""
    return text.replace("127.0.0.1:8001", stack.triton_grpc).replace(":8000", f":{stack.ports.triton_http}")

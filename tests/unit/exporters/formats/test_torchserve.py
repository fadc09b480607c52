"""Model archives for TorchServe, and what their handler does in a worker."""

from __future__ import annotations

import ast
import io
import json
import sys
import zipfile

import numpy as np
import pytest
import torch

from connectors.torchserve.framing import AnswerRefused, answer, description, question
from exporters.errors import ExportError
from exporters.formats import torchserve_handler as handler
from exporters.formats.torchserve import HANDLER, archive
from trading.models.signature import ModelSignature, TensorSpec

SIGNATURE = ModelSignature(
    "pair", "pytorch", (TensorSpec("x", (2,)), TensorSpec("k", (1,), "INT64")),
    (TensorSpec("y", (2,)), TensorSpec("n", (1,), "INT64")), (), None, 8,
)  # fmt: skip


class Pair(torch.nn.Module):
    def forward(self, x, k):
        return x * 2.0, k + 1


class Context:
    """What TorchServe tells a handler, and is told by it."""

    def __init__(self, folder):
        self.system_properties = {"model_dir": str(folder), "gpu_id": None}
        self.manifest = json.loads((folder / "MAR-INF/MANIFEST.json").read_text())
        self.statuses = {}

    def set_response_status(self, code, idx):
        self.statuses[idx] = code


@pytest.fixture(scope="module")
def module():
    kept = io.BytesIO()
    torch.jit.save(torch.jit.script(Pair()), kept)
    return kept.getvalue()


@pytest.fixture
def worker(module, tmp_path):
    """A worker that has loaded the archive."""
    executor = torch._C._get_graph_executor_optimize()
    with zipfile.ZipFile(io.BytesIO(archive(SIGNATURE, 3, module))) as file:
        file.extractall(tmp_path)
    context = Context(tmp_path)
    threads = torch.get_num_threads()
    assert handler.handle(None, context) is None
    yield context
    torch.set_num_threads(threads)
    torch._C._jit_set_profiling_executor(True)
    torch._C._jit_set_profiling_mode(True)
    assert torch._C._get_graph_executor_optimize() == executor


def rows(n):
    return [np.arange(2 * n, dtype=np.float32).reshape(n, 2), np.arange(n, dtype=np.int64).reshape(n, 1)]


def test_the_same_model_makes_the_same_bytes_and_another_version_others(module):
    assert archive(SIGNATURE, 3, module) == archive(SIGNATURE, 3, module)
    assert archive(SIGNATURE, 3, module) != archive(SIGNATURE, 4, module)


def test_an_archive_holds_the_module_our_handler_and_the_contract_and_nothing_else(module):
    with zipfile.ZipFile(io.BytesIO(archive(SIGNATURE, 3, module))) as file:
        assert sorted(file.namelist()) == ["MAR-INF/MANIFEST.json", "contract.json", "model.pt", HANDLER.name]
        assert file.read("model.pt") == module
        assert file.read(HANDLER.name) == HANDLER.read_bytes()
        told = json.loads(file.read("MAR-INF/MANIFEST.json"))["model"]
    assert (told["modelName"], told["modelVersion"], told["handler"]) == ("pair", "3", HANDLER.name)


def test_the_handler_needs_nothing_but_torch_and_unpickles_nothing():
    tree = ast.parse(HANDLER.read_text())
    imported = {
        name.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    } | {
        (node.module or "").partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }  # fmt: skip
    assert imported - set(sys.stdlib_module_names) == {"torch"}
    assert "pickle" not in HANDLER.read_text().replace("unpickled", "")


def test_what_is_no_torchscript_is_refused(module):
    onnx = ModelSignature("pair", "onnxruntime", SIGNATURE.inputs, SIGNATURE.outputs)
    with pytest.raises(ExportError, match="TorchServe serves nothing else"):
        archive(onnx, 1, module)


def test_raw_rows_are_answered_one_for_one_each_request_for_itself(worker):
    batch = [question(SIGNATURE.inputs, rows(n)) for n in (1, 3)]
    found = [answer(one) for one in handler.handle(batch, worker)]
    for n, one in zip((1, 3), found, strict=True):
        assert (one.model_name, one.model_version) == ("pair", "3")
        np.testing.assert_array_equal(one.outputs["y"], rows(n)[0] * 2)
        np.testing.assert_array_equal(one.outputs["n"], rows(n)[1] + 1)
        assert one.outputs["n"].dtype == np.int64
    assert worker.statuses == {0: 200, 1: 200}


def test_numbers_as_json_are_answered_as_json(worker):
    body = {"inputs": [
        {"name": "k", "datatype": "INT64", "shape": [1, 1], "data": [4]},
        {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [[1.5, float("inf")]]},
    ]}  # fmt: skip
    (told,) = handler.handle([{"body": body}], worker)
    found = {one["name"]: one for one in json.loads(told)["outputs"]}
    assert found["y"]["data"] == [3.0, None]
    assert found["n"] == {"name": "n", "datatype": "INT64", "shape": [1, 1], "data": [5]}
    (again,) = handler.handle([{"body": json.dumps(body).encode()}], worker)
    assert again == told


def test_a_version_says_what_it_is(worker):
    (told,) = handler.handle([{"describe": b"1"}], worker)
    found = description(told)
    assert (found.name, found.version, found.device) == ("pair", "3", "cpu")
    assert (found.inputs, found.outputs) == (SIGNATURE.inputs, SIGNATURE.outputs)
    assert (found.feature_version, found.max_batch_size) == (None, 8)


def asked(change):
    """A good request, changed."""
    made = question(SIGNATURE.inputs, rows(2))
    header = json.loads(made["header"])
    change(header)
    return {"header": json.dumps(header).encode(), "data": made["data"]}


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (asked(lambda h: h["inputs"].pop()), "inputs are x: expected x, k"),
        (asked(lambda h: h["inputs"].append(dict(h["inputs"][0]))), "inputs are x, k, x"),
        (asked(lambda h: h["inputs"][0].update(name="z")), "inputs are z, k"),
        (asked(lambda h: h["inputs"][0].update(datatype="FP64")), "x is FP64"),
        (asked(lambda h: h["inputs"][0].update(shape=[2, 3])), r"x is FP32 \[2, 3\]: expected FP32 \[-1, 2\]"),
        (asked(lambda h: h["inputs"][0].update(shape=[-2, 2])), "x is FP32"),
        (asked(lambda h: h["inputs"][0].update(shape=[True, 2])), "x is FP32"),
        (asked(lambda h: h["inputs"][0].update(shape=2)), "x is FP32 2"),
        (asked(lambda h: h["inputs"][1].update(shape=[3, 1])), "k has 3 rows, and another input 2"),
        (asked(lambda h: [one["shape"].__setitem__(0, 9) for one in h["inputs"]]), "9 rows: expected 1 to 8"),
        (asked(lambda h: [one["shape"].__setitem__(0, 0) for one in h["inputs"]]), "0 rows: expected 1 to 8"),
        (asked(lambda h: [one["shape"].__setitem__(0, 3) for one in h["inputs"]]), "data ends within"),
        (asked(lambda h: [one["shape"].__setitem__(0, 1) for one in h["inputs"]]), "data has 32 bytes: expected 16"),
        (asked(lambda h: h.update(inputs={})), "expected a list"),
        (asked(lambda h: h.update(inputs=[1])), "expected a list"),
        ({"header": b"{", "data": b""}, "no JSON"),
        ({"header": b"[1]", "data": b""}, "no JSON object"),
        ({"header": b"\xff", "data": b""}, "no JSON"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_in_words_and_its_neighbours_are_answered(worker, request_, says):
    good = question(SIGNATURE.inputs, rows(1))
    first, second = handler.handle([request_, good], worker)
    with pytest.raises(AnswerRefused, match=says):
        answer(first)
    assert answer(second).outputs["y"].shape == (1, 2)
    assert worker.statuses == {0: 400, 1: 200}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "expected a list"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": ["a", "b"]},
                     {"name": "k", "datatype": "INT64", "shape": [1, 1], "data": [1]}]}, "data of x"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0]},
                     {"name": "k", "datatype": "INT64", "shape": [1, 1], "data": [1]}]}, "data of x"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2]},
                     {"name": "k", "datatype": "INT64", "shape": [1, 1], "data": [1]}]}, "data of x"),
        (None, "a request has"),
        (2_000_000_000, "no JSON object"),
        (["a"], "no JSON object"),
        ("text", "no JSON"),
        (1.5, "no JSON object"),
        (True, "no JSON object"),
    ],
)  # fmt: skip
def test_json_that_is_no_request_is_refused_in_words(worker, body, says):
    (told,) = handler.handle([{"body": body} if body is not None else {"other": b"1"}], worker)
    assert says in json.loads(told)["error"]
    assert worker.statuses == {0: 400}


def test_a_model_that_answers_otherwise_than_its_contract_fails_for_all_to_see(worker, monkeypatch):
    monkeypatch.setitem(handler.State.contract, "outputs", [{"name": "y", "dims": [3], "dtype": "FP32"}])
    with pytest.raises(ValueError, match="answers with 2 tensors"):
        handler.handle([question(SIGNATURE.inputs, rows(1))], worker)

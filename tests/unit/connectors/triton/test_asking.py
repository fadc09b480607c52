"""Models asked over HTTP of a server that the test writes: what it says, and what it should not have said."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from connectors.triton.asking import ModelClient, ServedTensor, served_model
from stack.workflows.inference import Asked, ask, records, whole, write
from trading.errors import ConfigurationError, ServiceUnavailable

METADATA = {
    "name": "m", "versions": ["2", "10"], "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
}  # fmt: skip
ROWS = np.ones((3, 2))


class FakeTriton(ThreadingHTTPServer):
    """Answers by path: JSON, or bytes as they stand; of what it is asked to infer it keeps the shapes."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(self.server.answers.get(self.path, {}))

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = int(self.headers.get("Inference-Header-Content-Length", len(body)))
        self.server.asked.append(json.loads(body[:head])["inputs"][0]["shape"])
        self.reply(self.server.answers["infer"])

    def reply(self, answer):
        if answer is None:
            self.connection.close()
            return
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        if body.startswith(b"raw:"):
            self.wfile.write(body.removeprefix(b"raw:"))
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def triton():
    servers = []

    def made(metadata=METADATA, config=None, infer=None):
        answers = {
            "/v2/models/m": metadata, "/v2/models/m/config": config or {"max_batch_size": 8}, "infer": infer,
        }  # fmt: skip
        servers.append(FakeTriton(answers))
        return servers[-1]

    yield made
    for one in servers:
        one.shutdown()
        one.server_close()


def client(server):
    return ModelClient(f"127.0.0.1:{server.server_port}", "http", timeout_s=5.0)


def answer(*shape, name="y"):
    return {"model_name": "m", "model_version": "10", "outputs": [
        {"name": name, "datatype": "FP32", "shape": list(shape), "data": [1.0] * int(np.prod(shape))}]}  # fmt: skip


def test_what_a_server_says_of_a_model(triton):
    with client(triton()) as one:
        found = one.model("m")
    assert (found.version, found.max_batch, found.rows_at_once) == ("10", 8, 8)
    assert found.inputs == (ServedTensor("x", "FP32", (2,)),)
    whole_ones = served_model("m", {**METADATA, "inputs": [{"name": "x", "datatype": "FP32", "shape": [4, 2]}]}, {})
    assert (whole_ones.max_batch, whole_ones.rows_at_once) == (0, 4)


@pytest.mark.parametrize(
    "metadata",
    [{}, [], "words", 7, b"<html>", b"raw:\x00\x00\x18\x04\x00\x00", None, {"inputs": [{}], "outputs": []},
     {"inputs": 3, "outputs": []}, {**METADATA, "inputs": [{"name": "x", "shape": ["wide"]}]}],
)  # fmt: skip
def test_somebody_else_who_listens_there_is_a_sentence(triton, metadata):
    with (
        client(triton(metadata)) as one,
        pytest.raises(ServiceUnavailable, match=r"description|does not answer by http"),
    ):
        one.model("m")


@pytest.mark.parametrize("config", [7, "words", {"max_batch_size": "many"}, b"<html>"])
def test_a_configuration_that_is_none_is_a_sentence(triton, config):
    with client(triton(config=config)) as one, pytest.raises(ServiceUnavailable):
        one.model("m")


@pytest.mark.parametrize("infer", [None, b"<html>", b"raw:rubbish"])
def test_an_answer_that_is_none_is_a_sentence(triton, infer):
    server = triton(infer=infer)
    with client(server) as one, pytest.raises(ServiceUnavailable, match="does not answer by http"):
        one.infer(one.model("m"), {"x": ROWS})


def test_rows_are_asked_in_batches(triton):
    server = triton(infer=answer(8, 1))
    with client(server) as one:
        found = one.infer(one.model("m"), {"x": np.ones((16, 2))})
    assert server.asked == [[8, 2], [8, 2]]
    assert found["y"].shape == (16, 1)


def test_an_output_that_does_not_come_is_named(triton):
    server = triton(infer=answer(3, 1, name="z"))
    with client(server) as one, pytest.raises(ConfigurationError, match="without its output y"):
        one.infer(one.model("m"), {"x": ROWS})


@pytest.mark.parametrize("shape", [(1, 1), (5, 6), (0, 6)])
def test_answers_that_are_not_by_row_are_told_whole(triton, tmp_path, shape):
    server = triton(infer=answer(*shape))
    with client(server) as one:
        found = ask(one, one.model("m"), Asked({"x": ROWS}), "", (), lambda _: None)
        with pytest.raises(ConfigurationError, match="cannot be told apart: ask 8 rows at most"):
            one.infer(one.model("m"), {"x": np.ones((9, 2))})
    assert not found.is_by_row
    assert np.shape(whole(found)["y"]) == (shape if shape[0] else (0,))
    with pytest.raises(ConfigurationError, match="write .npz or .json"):
        write(found, tmp_path / "out.csv")
    write(found, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == whole(found)
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_an_output_may_have_any_name(triton, tmp_path):
    metadata = {**METADATA, "outputs": [{"name": "file", "datatype": "FP32", "shape": [-1, 1]}]}
    with client(triton(metadata, infer=answer(3, 1, name="file"))) as one:
        found = ask(one, one.model("m"), Asked({"x": ROWS}), "", (), lambda _: None)
    assert records(found) == [{"file": 1.0}] * 3
    write(found, tmp_path / "out.npz")
    assert np.load(tmp_path / "out.npz")["file"].tolist() == [[1.0]] * 3


def test_a_model_that_takes_nothing_is_not_asked(triton):
    with (
        client(triton({**METADATA, "inputs": []})) as one,
        pytest.raises(ConfigurationError, match="takes nothing"),
    ):
        one.infer(one.model("m"), {})

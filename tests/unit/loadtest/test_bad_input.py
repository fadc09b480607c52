"""What cannot be measured is a sentence and exit code 2, before anything is sent."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from msgspec import structs
from typer.testing import CliRunner

from connectors.triton.asking import ServedModel, ServedTensor
from loadtest.errors import InvalidRun
from loadtest.measuring import preflight
from loadtest.measuring.answers import finite
from loadtest.measuring.result import save
from loadtest.open_loop.calls import ModelLoad
from loadtest.open_loop.drive import Load
from loadtest.open_loop.rows import feature_rows, rows_for, shapes_of
from stack.cli.loadtest import app
from stack.servers.ports import free_ports
from stack.workflows.loadtest.configuration import Configuration, order
from tests.unit.loadtest.results import result_of
from trading.errors import ConfigurationError


@pytest.mark.parametrize(
    "address", ["127.0.0.1:9092", "localhost:1", "http://127.0.0.1:8000", "[::1]:9092", "127.8.0.1:1,localhost:2"]
)
def test_this_machine_may_be_loaded(address):
    preflight.only_loopback(address, allow_remote=False)
    for one in address.rpartition("//")[2].split(","):
        assert preflight.is_loopback(one.rpartition(":")[0].strip("[]"))


@pytest.mark.parametrize(
    "address", ["10.0.0.7:9092", "127.0.0.1:9092,192.0.2.1:9092", "0.0.0.0:9092", "nosuch.invalid:1"]
)
def test_another_machine_may_not_unless_that_was_said(address):
    with pytest.raises(InvalidRun, match="--allow-remote"):
        preflight.only_loopback(address, allow_remote=False)
    preflight.only_loopback(address, allow_remote=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:x", ":9092", "", "127.0.0.1:99999"])
def test_an_address_needs_a_host_and_a_port(address):
    with pytest.raises(InvalidRun, match="expected HOST:PORT"):
        preflight.only_loopback(address, allow_remote=True)


class Server(BaseHTTPRequestHandler):
    """Says what the test wants by path."""

    answers: ClassVar[dict[str, tuple[int, object]]] = {}

    def do_GET(self):
        code, body = self.answers.get(self.path, (404, {"error": "unknown model"}))
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def server():
    made = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    thread.join()
    made.server_close()


METADATA = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [-1, 32]}], "outputs": []}


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"/v2": (403, {})}, "gives no permission"),
        ({"/v2": (200, {}), "/v2/models/m": (403, {})}, "gives no permission"),
        ({"/v2": (200, {})}, "serves no model m"),
        ({"/v2": (500, {})}, "does not answer by HTTP"),
        ({"/v2": (200, {}), "/v2/models/m": (200, METADATA), "/v2/models/m/config": (200, {"max_batch_size": 4})},
         "batch 8: model m takes at most 4 rows"),
        ({"/v2": (200, {}), "/v2/models/m": (200, {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 64]}], "outputs": []}),
          "/v2/models/m/config": (200, {})}, "batch 8: model m takes 1 rows"),
        ({"/v2": (200, {}), "/v2/models/m": (200, {"inputs": [], "outputs": []}), "/v2/models/m/config": (200, {})}, "takes nothing"),
    ],
)  # fmt: skip
def test_an_http_server_that_will_not_do_is_a_sentence(server, answers, says):
    Server.answers = answers
    with pytest.raises(InvalidRun, match=says):
        preflight.check_http(server, "m", batch=8)


def test_a_model_that_takes_the_rows_passes(server):
    Server.answers = {
        "/v2": (200, {}), "/v2/models/m/versions/3": (200, METADATA),
        "/v2/models/m/versions/3/config": (200, {"max_batch_size": 64}),
    }  # fmt: skip
    preflight.check_http(server, "m", "3", batch=8)


def test_no_server_at_all_is_a_sentence():
    (port,) = free_ports(1)
    with pytest.raises(InvalidRun, match=f"127.0.0.1:{port} does not answer by gRPC.*stack up"):
        preflight.check_grpc(f"127.0.0.1:{port}", "m")
    with pytest.raises(InvalidRun, match="does not answer by HTTP.*stack up"):
        preflight.check_http(f"127.0.0.1:{port}", "m")


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (Load("x", "simulate:calm", "9y", 10), "expected real"),
        (Load("x", "simulate:calm", "10/s"), "needs an end"),
        (Load("x", "simulate:calm", "10/s", duration_s=4.0), "all warm-up"),
        (Load("x", "simulate:calm", "max", 100), "no intended times"),
        (Load("x", "nonsense", "10/s", 10), "expected one of"),
    ],
)
def test_a_load_that_makes_no_sense_is_refused(load, says):
    with pytest.raises(ConfigurationError, match=says):
        load.check()


@pytest.mark.parametrize(
    ("given", "says"),
    [({"speed": "1x"}, "need a rate"), ({"duration_s": 2.0}, "all warm-up"), ({"batch": 0}, "at least one row")],
)
def test_calls_that_make_no_sense_are_refused(given, says):
    with pytest.raises(ConfigurationError, match=says):
        ModelLoad("x", **given).check()


def test_rows_are_warm_and_never_zeros():
    rows = feature_rows("simulate:regimes?ticks=6000&symbols=2")
    assert rows.shape == (1024, 32)
    assert (rows != 0).mean() > 0.5
    assert len({row.tobytes() for row in rows}) > 1000
    with pytest.raises(InvalidRun, match="warm feature rows"):
        feature_rows("simulate:calm?ticks=5")


IMAGE = ServedTensor("image", "FP32", (3, -1, -1))
IDS = ServedTensor("ids", "INT64", (2,))


def served(*inputs):
    return ServedModel("m", "1", inputs, (), 8)


def test_rows_of_any_model_are_made_up_as_its_inputs_are():
    found = rows_for(served(IDS, ServedTensor("x", "FP16", (4,))))
    assert [(a.shape, str(a.dtype)) for a in found.arrays] == [((256, 2), "int64"), ((256, 4), "float16")]
    assert set(np.unique(found.arrays[0])) == {0, 1}
    assert found.source == "made up"
    (ids, x) = found.batch(255, 3)
    assert ids[1].shape == (3, 2)
    assert np.array_equal(x[1][1], found.arrays[1][0])


def test_an_open_axis_is_said_and_text_is_not_sent():
    with pytest.raises(InvalidRun, match="say --shape image:DIM,DIM or give rows"):
        rows_for(served(IMAGE))
    found = rows_for(served(IMAGE), shapes=shapes_of(["image:3,8,9"]))
    assert found.arrays[0].shape == (256, 3, 8, 9)
    with pytest.raises(ConfigurationError, match=r"takes \[3, -1, -1\] a row for image"):
        rows_for(served(IMAGE), shapes={"image": "4,8,9"})
    with pytest.raises(ConfigurationError, match="--shape picture: m takes image"):
        rows_for(served(IMAGE), shapes={"picture": "3,8,9"})
    with pytest.raises(ConfigurationError, match="--rows has them"):
        rows_for(served(IMAGE), file=Path("rows.npy"), shapes={"image": "3,8,9"})
    with pytest.raises(InvalidRun, match="takes text for words"):
        rows_for(served(ServedTensor("words", "BYTES", (1,))))
    for text in ("image", "image:", ":3", "image:3,x", "image:-3"):
        with pytest.raises(ConfigurationError, match="expected NAME:DIM,DIM"):
            shapes_of([text])


def test_rows_that_are_made_up_take_no_more_memory_than_there_is_room_for():
    large = rows_for(served(IMAGE), shapes={"image": "3,640,640"})
    assert 1 <= large.count < 10
    assert rows_for(served(IMAGE), shapes={"image": "3,4,4"}).count == 256
    with pytest.raises(InvalidRun, match=r"one row of m would take 185,394 MiB"):
        rows_for(served(IMAGE), shapes={"image": "3,90000,90000"})


@pytest.mark.parametrize(
    ("values", "says"),
    [(None, "not there"), ([1.0, None], "not there"), ([1.0, math.nan], "not finite"), ([[math.inf]], "not finite"),
     (np.array([None]), "not there")],
)  # fmt: skip
def test_an_answer_that_nobody_could_act_on_has_failed(values, says):
    with pytest.raises(ValueError, match=f"y is {says}"):
        finite("y", values)
    finite("y", [1.0, 2])
    finite("y", ["words"])


def test_rows_of_a_file_are_sent_to_any_model(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n3,4\n5,6\n")
    found = rows_for(served(IDS), file=tmp_path / "rows.csv")
    assert found.arrays[0].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert found.source == str(tmp_path / "rows.csv")
    (tmp_path / "rows.csv").write_text("a,b\n1.5,2\n")
    with pytest.raises(ConfigurationError, match="ids is to be int64, and holds other numbers"):
        rows_for(served(IDS), file=tmp_path / "rows.csv")


def test_sides_are_read():
    assert Configuration.parse("default") == Configuration("default", {})
    found = Configuration.parse("model=trading_decision_fused, delivery=at-least-once,brokers=3,commit=HEAD~1")
    assert found.gateway == {"model_name": "trading_decision_fused", "delivery": "at-least-once"}
    assert (found.brokers, found.commit) == (3, "HEAD~1")
    assert order(3) == [0, 1, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("text", "says"),
    [("fast", "expected NAME=VALUE"), ("model=", "expected NAME=VALUE"), ("brokers=2", "expected 1 or 3"),
     ("bogus=1", "no setting bogus")],
)  # fmt: skip
def test_wrong_sides_are_a_sentence(text, says):
    with pytest.raises(ConfigurationError, match=says):
        Configuration.parse(text)


def command(*arguments, home):
    return subprocess.run(
        [str(Path(sys.executable).parent / "ultrathink"), "--home", str(home), "loadtest", *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["kafka", "--speed", "fast"], "expected real"),
        (["kafka", "--duration", "soon"], "expected a time above 0, as 30s"),
        (["kafka", "--target", "nosuch"], "has no target 'nosuch'"),
        (["kafka", "--targets", "/nowhere.yaml"], "/nowhere.yaml: No such file"),
        (["kafka", "--data", "binance:/nowhere.gz"], "/nowhere.gz is no file"),
        (["kafka"], "no gateway decides here"),
        (["kafka", "--bootstrap", "192.0.2.1:9092"], "--allow-remote"),
        (["kafka", "--bootstrap", "127.0.0.1:1", "--duration", "6s"], "does not answer"),
        (["kafka", "--out", "/proc/nowhere"], "--out /proc/nowhere"),
        (["triton"], "does not answer by gRPC"),
        (["triton", "--triton-url", "192.0.2.1:8001"], "--allow-remote"),
        (["triton", "--speed", "1x"], "need a rate"),
        (["capacity", "--arrivals", "bursty"], "expected constant or poisson"),
        (["compare", "default", "bogus=1"], "no setting bogus"),
        (["compare", "a.json", "b.json"], "a.json: No such file"),
        (["soak", "--duration", "10s"], "all warm-up"),
        (["kafka", "--embedded", "--bootstrap", "127.0.0.1:9092"], "leave --bootstrap out"),
        (["triton", "--embedded", "--triton-url", "127.0.0.1:8001"], "leave --triton-url out"),
        (["report", "nosuch.json"], "nosuch.json: No such file"),
    ],
)
def test_the_command_line_says_what_is_wrong_and_exits_with_2(arguments, says, tmp_path, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path))
    done = CliRunner().invoke(app, arguments)
    # What the entry point makes of it (a sentence, exit code 2) is the next test's business.
    assert isinstance(done.exception, ConfigurationError), done.output
    assert says in str(done.exception)


def run_in(tmp_path, monkeypatch, *arguments):
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path / "home"))
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_two_results_are_compared_even_into_the_folder_of_one(tmp_path, monkeypatch):
    for name, level in (("a", 5.0), ("b", 9.0)):
        save(
            tmp_path / name / "result.json", result_of(np.random.default_rng(1).lognormal(np.log(level), 0.3, 3000))
        )
    files = [tmp_path / name / "result.json" for name in "ab"]
    done = run_in(tmp_path, monkeypatch, "compare", *files, "--out", tmp_path / "a", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["verdicts"][0], found["invalid_runs"]) == ("B is higher", [0, 0])
    assert found["ratios"][0]["ratio"] == pytest.approx(1.8, rel=0.05)
    assert (tmp_path / "a" / "report.html").is_file()


def test_results_of_different_loads_do_not_compare(tmp_path, monkeypatch):
    save(tmp_path / "a.json", result_of(np.full(3000, 5.0)))
    save(tmp_path / "b.json", result_of(np.full(3000, 5.0), settings={"speed": "900/s"}))
    done = run_in(tmp_path, monkeypatch, "compare", tmp_path / "a.json", tmp_path / "b.json")
    assert "results of different loads do not compare" in str(done.exception)


def test_an_invalid_run_makes_the_ratio_invalid(tmp_path, monkeypatch):
    save(tmp_path / "a.json", structs.replace(result_of(np.full(3000, 5.0)), verdict="invalid"))
    save(tmp_path / "b.json", result_of(np.full(3000, 5.0)))
    done = run_in(
        tmp_path, monkeypatch, "compare", tmp_path / "a.json", tmp_path / "b.json", "--out", tmp_path / "o"
    )
    assert isinstance(done.exception, InvalidRun)


def test_an_error_is_a_sentence_and_exit_code_2(tmp_path):
    done = command("kafka", home=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "error: no gateway decides here" in done.stderr
    assert "Traceback" not in done.stderr


def test_targets_are_shown_and_checked(tmp_path):
    done = command("targets", "--json", home=tmp_path)
    assert json.loads(done.stdout)["decision"]["p99_ms"] == 50
    wrong = tmp_path / "t.yaml"
    wrong.write_text("version: 1\ntargets: {a: {p98_ms: 3}}")
    done = command("targets", "--targets", str(wrong), home=tmp_path)
    assert (done.returncode, "p98_ms" in done.stderr) == (2, True)

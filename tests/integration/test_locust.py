"""Locust, headless, as docs/loadtest.md says it is run, against the real servers."""

from __future__ import annotations

import json
import subprocess
import sys
from xml.etree import ElementTree as ET

import httpx
import pytest
from typer.testing import CliRunner

from exporters.profiles import find_gpu
from exporters.release.releases import Releases
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from stack.cli.main import app
from stack.servers.ports import free_ports
from tests.paths import ROOT
from tests.unit.exporters.models import publish_times
from tests.waiting import eventually

FILE = ROOT / "loadtest" / "locustfile.py"
#: How fast this machine is today is not the tests' business: any answer is quick enough.
TARGETS = "version: 1\ntargets: {%s}\n"


def locust(*arguments, files=FILE, seconds=6):
    return subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(files), "--headless", "--only-summary", "-t", f"{seconds}s", *arguments],
        capture_output=True, text=True, timeout=120, check=False, cwd=ROOT,
    )  # fmt: skip


def servers(stack):
    http = f"http://127.0.0.1:{stack.ports.triton_http}"
    return ["--triton-grpc", stack.triton_grpc, "--triton-http", http, "--kafka", stack.kafka_bootstrap]


def easy(tmp_path, *names, more=""):
    path = tmp_path / "targets.yaml"
    path.write_text(TARGETS % ", ".join(f'"{n}": {{min_samples: 20, max_error_ratio: 0.5{more}}}' for n in names))
    return ["--targets", str(path)]


def test_each_kind_of_triton_user_is_answered_and_judged(stack, exported, tmp_path):
    names = ("grpc", "stream", "http-json", "http-binary")
    done = locust(
        *("-u", "4", "-r", "4", "--warm-up", "1", "--tags", "triton", "--results", str(tmp_path / "out")),
        *servers(stack), *easy(tmp_path, *names),
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    assert done.returncode == 0, said
    for name in names:
        result = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert result["verdict"] == "held"
        assert (result["errors"], result["missing"]) == ({}, 0), name
        assert result["latency"]["count"] >= result["service"]["count"] == result["answered"] > 20
    assert len(ET.parse(tmp_path / "out" / "junit.xml").getroot()) == 4


@pytest.fixture(scope="module")
def foreign(stack, tmp_path_factory):
    """A model that is not ours: y = 2 x of four numbers, which the name of the stack's home finds."""
    repository = ModelRepository(stack.model_repository)
    version = publish_times(repository, tmp_path_factory.mktemp("foreign"), 2.0, name="twice")
    triton = TritonServer(stack.triton_grpc)
    Releases(repository, triton, find_gpu("rtx5070"), lambda _: None).release("twice", version)
    triton.close()
    return "twice"


def test_a_model_that_is_not_ours_is_asked_with_rows_of_its_own_or_made_up(stack, foreign, tmp_path, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_HOME", str(stack.home))
    (tmp_path / "rows.csv").write_text("a,b,c,d\n1,2,3,4\n5,6,7,8\n")
    names = ("grpc", "http-json", "http-binary")
    done = locust(
        *("-u", "3", "-r", "3", "--warm-up", "1", "--tags", *names[:1], "http", "--results", str(tmp_path / "out")),
        *("--model", foreign, "--rows", str(tmp_path / "rows.csv")), *easy(tmp_path, *names),
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert (done.returncode, "Traceback" in said) == (0, False), said
    assert all(json.loads((tmp_path / "out" / f"{name}.json").read_text())["errors"] == {} for name in names)
    told = CliRunner().invoke(
        app, ["loadtest", "triton", "--model", foreign, "--speed", "50/s", "--duration", "2s", "--warm-up", "0.5",
              "--targets", str(tmp_path / "targets.yaml"), "--target", "grpc", "--json", "--out", str(tmp_path / "o")],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["errors"] == {}


@pytest.mark.slow
def test_a_gate_that_cannot_hold_exits_with_1(stack, exported, tmp_path):
    done = locust(
        *("-u", "2", "-r", "2", "--warm-up", "1", "--tags", "grpc"), *servers(stack),
        *easy(tmp_path, "grpc", more=", p50_ms: 0.0001"), seconds=4,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "grpc: missed" in done.stdout


@pytest.mark.slow
def test_the_page_shows_each_gate_and_its_verdict_while_the_test_runs(stack, exported, tmp_path):
    port = free_ports(1)[0]
    page = subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", str(FILE), "--web-port", str(port), "--tags", "grpc", "--warm-up", "0.5",
         *servers(stack), *easy(tmp_path, "grpc", more=", p50_ms: 0.0001, p99_ms: 60000")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5.0, trust_env=False) as browser:
            assert '"title": "Gates"' in eventually(lambda: answered(browser, "/"), 30.0)
            assert gates_of(browser) == []
            browser.post("/swarm", data={"user_count": 2, "spawn_rate": 2}).raise_for_status()
            rows = eventually(lambda: enough(gates_of(browser)), 30.0)
            # Locust keeps what it tells for two seconds.
            eventually(lambda: browser.get("/stats/requests").json()["state"] == "running", 5.0)
    finally:
        page.terminate()
        page.wait(30)
    told = {row["figure"]: (row["goal"], row["verdict"]) for row in rows}
    assert told["p50"] == ("at most 0.0001 ms", "MISSED")
    assert told["p99"] == ("at most 60000 ms", "held")
    assert told["all goals"] == ("", "MISSED")


def answered(browser, path):
    """The page, once it is there."""
    try:
        return browser.get(path).text
    except httpx.TransportError:
        return ""


def gates_of(browser):
    """The rows of our tab, as the page polls them."""
    (told,) = browser.get("/stats/requests").json()["extended_stats"]
    assert told["key"] == "gates"
    return told["data"]


def enough(rows):
    """The rows, once so many requests were made that they prove something."""
    return [] if any(row["verdict"] == "proves nothing yet" for row in rows) else rows


@pytest.mark.slow
def test_workers_of_several_processes_are_judged_together(stack, exported, tmp_path):
    port = str(free_ports(1)[0])
    done = locust(
        *("-u", "2", "-r", "2", "--warm-up", "1", "--tags", "grpc", "--processes", "2", "--results", str(tmp_path / "out")),
        *servers(stack), *easy(tmp_path, "grpc"), "--master-bind-port", port, "--master-port", port, seconds=8,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert said.count("grpc: held") == 1, said
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    # Two users at a hundred a second each, in a process each.
    assert result["answered"] > 300


@pytest.mark.slow
def test_a_shape_decides_how_many_users_there_are_and_when_it_ends(stack, exported, tmp_path):
    shape = ROOT / "loadtest" / "shapes" / "step.py"
    done = subprocess.run(
        [sys.executable, "-m", "locust", "-f", f"{FILE},{shape}", "--headless", "--only-summary", "--tags", "grpc",
         "--warm-up", "0", "--peak-users", "5", "--shape-time", "6", *servers(stack), *easy(tmp_path, "grpc")],
        capture_output=True, text=True, timeout=120, check=False, cwd=ROOT,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    for users in range(1, 6):
        assert f"updating to {users} users" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tags", "grpc", "--triton-grpc", "127.0.0.1:1"], "does not answer by gRPC"),
        (["--tags", "json", "--triton-http", "http://127.0.0.1:1"], "does not answer by HTTP"),
        (["--tags", "end-to-end", "--kafka", "127.0.0.1:1"], "does not answer"),
        (["--tags", "grpc", "--triton-grpc", "192.0.2.1:8001"], "--allow-remote"),
        (["--tags", "nosuch"], "no user is left"),
        (["--tags", "grpc", "--processes", "2", "--triton-grpc", "127.0.0.1:1"], "does not answer by gRPC"),
        (["--tags", "grpc", "--targets", "/nowhere.yaml"], "/nowhere.yaml"),
        (["--tags", "grpc", "--batch", "0"], "--batch 0"),
        (["--tags", "grpc", "--results", "/proc/nowhere"], "/proc/nowhere"),
        (["--tags", "grpc", "--data", "nonsense"], "expected one of"),
        (["--tags", "grpc", "--rows", "/nowhere.npy"], "No such file"),
        (["--tags", "grpc", "--shape", "image"], "expected NAME:DIM,DIM"),
    ],
)
def test_what_cannot_be_loaded_is_a_sentence_and_exits_with_2(arguments, says):
    done = locust("-u", "1", *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_wrong_model_or_too_large_a_batch_is_a_sentence(stack, exported):
    for arguments, says in ((["--model", "nosuch"], "serves no model nosuch"), (["--batch", "5000"], "takes at most"),
                            (["--rows", "absent.npy"], "No such file")):  # fmt: skip
        for tag in ("grpc", "json"):
            done = locust("-u", "1", "--tags", tag, *servers(stack), *arguments)
            assert done.returncode == 2, done.stdout + done.stderr
            assert says in done.stderr

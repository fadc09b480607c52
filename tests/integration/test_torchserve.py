"""The real TorchServe: tokens, loopback, our archives alone, releases with the same journal, and what may die."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import closing

import httpx
import numpy as np
import psutil
import pytest
import torch
from typer.testing import CliRunner

from connectors.torchserve.errors import Meaning, RpcError, meaning
from connectors.torchserve.framing import answer, question
from connectors.torchserve.inferring import TorchServeInfer
from connectors.torchserve.management import TorchServeManagement
from connectors.torchserve.tokens import KEY_FILE, fixed, of_key_file
from exporters.errors import ExportError, ParityError
from exporters.export import export_model
from exporters.formats.torchserve import archive, archive_name
from exporters.profiles import find_gpu
from exporters.release.journal import Journal
from exporters.release.releases import Releases
from exporters.release.torchserve_server import TorchServeServer
from exporters.repository.state import store_folder
from exporters.sources.declared import parse_input
from stack.cli.main import app
from stack.servers.torchserve import FILES, inference_address, management_address
from tests.torchserves import running_torchserve
from tests.unit.exporters.models import options
from tests.waiting import eventually
from trading.errors import ServiceUnavailable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
BACK_S = 10.0
CLI = CliRunner()


class Times(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


@pytest.fixture(scope="module")
def torchserve(tmp_path_factory):
    with running_torchserve(tmp_path_factory.mktemp("torchserve")) as one:
        yield one


def publish(one, folder, factor, name="times"):
    """Publish y = factor * x of four numbers; returns the version."""
    path = folder / f"{factor}.pt"
    torch.jit.save(torch.jit.script(Times(factor)), str(path))
    asked = options(name=name, format="torchscript", inputs=(parse_input("x:FP32[4]"),), max_batch=64)
    return export_model(str(path), asked, one.repository, lambda _: None).version


def releases(one, server):
    return Releases(one.repository, server, find_gpu("rtx5070"), lambda _: None)


def release(one, name, version):
    with closing(one.connect()) as server:
        return releases(one, server).release(name, version)


def asked_over_http(one, token, path="/predictions/times", port=None):
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    where = port or one.settings.ports.torchserve_http
    return httpx.post(f"http://127.0.0.1:{where}{path}", json=body, headers=headers, trust_env=False)


def secret(one, purpose):
    return (one.settings.absolute_home / "secrets" / FILES[purpose]).read_text()


def keys(one):
    return json.loads((one.service.folder / KEY_FILE).read_text())


@pytest.fixture(scope="module")
def served(torchserve, tmp_path_factory):
    """The server with `times` 1 (doubles) and 2 (trebles) released, one after the other."""
    folder = tmp_path_factory.mktemp("models")
    for factor in (2.0, 3.0):
        release(torchserve, "times", publish(torchserve, folder, factor))
    return torchserve


def test_a_release_answers_by_both_protocols_and_the_one_before_to_who_pins_it(served):
    with closing(served.connect()) as server:
        assert server.ready("times") == {1, 2}
        rows = np.arange(8, dtype=np.float32).reshape(2, 4)
        lineage = served.repository.lineage("times", 2)
        for version, factor in ((1, 2.0), (2, 3.0)):
            (found,) = server.run(lineage.contract, version)([rows])
            np.testing.assert_array_equal(found, rows * np.float32(factor))
    token = secret(served, "inference")
    for path, factor in (("", 3.0), ("/1", 2.0), ("/2", 3.0)):
        told = asked_over_http(served, token, f"/predictions/times{path}").raise_for_status().json()
        assert told["outputs"][0]["data"] == [factor * x for x in (1, 2, 3, 4)]
    done = [
        (t.begun.action, t.begun.version, t.last.step) for t in Journal(served.repository.journal).transactions()
    ]
    assert done[:2] == [("release", 1, "done"), ("release", 2, "done")]


def test_nothing_is_answered_without_the_token_that_is_for_it(served):
    tokens = {purpose: keys(served)[purpose]["key"] for purpose in ("inference", "management", "API")}
    ports = served.settings.ports
    for name, token in {**tokens, "none": "", "rubbish": "x"}.items():
        assert (asked_over_http(served, token).status_code == 200) == (name == "inference")
        listed = httpx.get(
            f"{management_address(served.settings)}/models",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            trust_env=False,
        )  # fmt: skip
        assert (listed.status_code == 200) == (name == "management")
        for port in (ports.torchserve_grpc, ports.torchserve_grpc_management):
            with closing(TorchServeInfer(f"127.0.0.1:{port}", fixed(token))) as infer:
                inputs = question(
                    served.repository.lineage("times", 2).contract.inputs, [np.ones((1, 4), np.float32)]
                )
                if name == "inference" and port == ports.torchserve_grpc:
                    (found,) = answer(infer("times", "", inputs, 5.0)).outputs.values()
                    assert found.tolist() == [[3.0] * 4]
                else:
                    with pytest.raises(RpcError) as refused:
                        infer("times", "", inputs, 1.0)
                    assert port != ports.torchserve_grpc or meaning(refused.value) is Meaning.DENIED
    for path in served.settings.absolute_home.glob("secrets/torchserve-*"):
        assert path.stat().st_mode & 0o77 == 0
    assert (served.service.folder / KEY_FILE).stat().st_mode & 0o77 == 0
    assert served.service.folder.stat().st_mode & 0o77 == 0


def test_it_listens_on_loopback_alone(served):
    process = psutil.Process(served.process.pid)
    listening = {c.laddr for p in (process, *process.children(recursive=True)) for c in p.net_connections("tcp")
                 if c.status == psutil.CONN_LISTEN}  # fmt: skip
    assert {where.ip for where in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert {where.port for where in listening} == set(served.service.ports)


def test_archives_from_anywhere_else_are_refused(served, tmp_path):
    contract = served.repository.lineage("times", 1).contract
    content = (served.repository.folder("times", 1) / "model.pt").read_bytes()
    (tmp_path / "foreign.mar").write_bytes(archive(contract, 9, content))
    with closing(httpx.Client(base_url=management_address(served.settings), trust_env=False, timeout=30)) as client:
        client.headers["Authorization"] = f"Bearer {secret(served, 'management')}"
        for url in (f"file://{tmp_path}/foreign.mar", f"{tmp_path}/foreign.mar", "../foreign.mar",
                    "http://127.0.0.1:9/foreign.mar", "s3://bucket/foreign.mar", "foreign.mar"):  # fmt: skip
            refused = client.post("/models", params={"url": url, "initial_workers": 1, "synchronous": "true"})
            assert refused.status_code >= 400, (url, refused.text)
        assert {m["modelName"] for m in client.get("/models").json()["models"]} == {"times"}


def test_a_version_that_does_not_answer_as_its_source_is_never_served(served, tmp_path):
    version = publish(served, tmp_path, 5.0, name="wrong")
    # What was published is not what is asked for: its golden rows are another model's.
    folder = served.repository.folder("wrong", version)
    torch.jit.save(torch.jit.script(Times(6.0)), str(folder / "model.pt"))
    with closing(served.connect()) as server:
        with pytest.raises(ExportError, match="was changed since it was published"):
            releases(served, server).release("wrong", version)
        told = json.loads((folder / "lineage.json").read_text())
        from exporters.repository.files import sha256

        told["files"]["model.pt"] = sha256(folder / "model.pt")
        (folder / "lineage.json").write_text(json.dumps(told))
        with pytest.raises(ParityError):
            releases(served, server).release("wrong", version)
        assert not server.is_loaded("wrong")
        assert not server.is_loaded("wrong--candidate")
    assert not served.repository.serving("wrong").versions
    assert [p.name for p in store_folder(served.repository.root).glob("wrong*")] == []


def test_a_server_that_reads_another_store_is_found_out(served, tmp_path):
    from exporters.repository.repository import ModelRepository

    elsewhere = ModelRepository(tmp_path / "models")
    with closing(served.place().connect(elsewhere)) as server:
        with elsewhere.nonce() as nonce:
            assert not server.sees(nonce)
        with pytest.raises(ExportError, match="does not serve from"):
            publish_and_release(elsewhere, server, tmp_path)
    with closing(served.connect()) as server, served.repository.nonce() as nonce:
        assert server.sees(nonce)


def publish_and_release(repository, server, folder):
    path = folder / "m.pt"
    torch.jit.save(torch.jit.script(Times(2.0)), str(path))
    asked = options(name="times", format="torchscript", inputs=(parse_input("x:FP32[4]"),), max_batch=64)
    version = export_model(str(path), asked, repository, lambda _: None).version
    Releases(repository, server, find_gpu("rtx5070"), lambda _: None).release("times", version)


class Callers:
    """Threads that ask without a pause, and keep what they were answered."""

    def __init__(self, one, count=3, timeout_s=5.0):
        contract = one.repository.lineage("times", 2).contract
        self._inputs = question(contract.inputs, [np.ones((1, 4), np.float32)])
        self._timeout_s, self._over = timeout_s, threading.Event()
        self.answered, self.failed, self.longest_s = 0, [], 0.0
        self._infer = TorchServeInfer(
            inference_address(one.settings), lambda: secret(one, "inference")
        )  # fmt: skip
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def _ask(self):
        while not self._over.is_set():
            began = time.monotonic()
            try:
                answer(self._infer("times", "2", self._inputs, self._timeout_s))
            except (RpcError, ServiceUnavailable) as error:
                self.failed.append(str(error))
            else:
                self.answered += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            time.sleep(0.005)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        eventually(lambda: self.answered > 20, 20.0)
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._infer.close()


def test_tokens_are_rotated_without_a_failed_request(served, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_HOME", str(served.settings.home))
    before = secret(served, "inference"), secret(served, "management")
    with Callers(served) as callers:
        for _ in range(5):
            done = CLI.invoke(app, ["stack", "rotate-tokens"])
            assert done.exit_code == 0, done.output
            reached = callers.answered
            eventually(lambda reached=reached: callers.answered > reached + 10, 20.0)
    assert callers.failed == []
    assert before[0] != secret(served, "inference")
    assert before[1] != secret(served, "management")
    assert asked_over_http(served, before[0]).status_code == 400
    assert asked_over_http(served, secret(served, "inference")).status_code == 200


def test_of_two_workers_one_may_die_unnoticed_and_is_back(served):
    management = TorchServeManagement(
        management_address(served.settings), of_key_file(served.service.folder / KEY_FILE, "management")
    )
    with closing(management), Callers(served) as callers:
        (version,) = [one for one in management.versions("times") if one.version == "2"]
        assert version.workers == ("READY", "READY")
        os.kill(version.pids[0], signal.SIGKILL)
        killed_s = time.monotonic()

        def back():
            (now,) = [one for one in management.versions("times") if one.version == "2"]
            return now.workers == ("READY", "READY") and version.pids[0] not in now.pids

        eventually(back, 30.0)
        took_s = time.monotonic() - killed_s
        reached = callers.answered
        eventually(lambda: callers.answered > reached + 20, 20.0)
    assert callers.failed == []
    assert took_s < BACK_S


def test_what_is_released_is_served_again_after_the_server_was_killed(served):
    before = secret(served, "inference")
    with Callers(served, timeout_s=40.0) as callers:
        served.end(signal.SIGKILL)
        served.start()
        reached = callers.answered
        eventually(lambda: callers.answered > reached + 10, 40.0)
    with closing(served.connect()) as server:
        assert server.ready("times") == {1, 2}
    assert before != secret(served, "inference")
    assert served.service.troubles() == []


def test_commands_release_verify_roll_back_and_tell_of_it(served, tmp_path, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_HOME", str(served.settings.home))
    path = tmp_path / "four.pt"
    torch.jit.save(torch.jit.script(Times(4.0)), str(path))
    done = CLI.invoke(app, ["export", "model", str(path), "--name", "four", "--input", "x:FP32[4]", "--server",
                            "torchserve", "--release", "--json"])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["published"][0]["format"] == "TorchScript"
    assert "gets no security fixes" in " ".join(done.stderr.split())
    again = CLI.invoke(app, ["export", "model", str(path), "--name", "four", "--input", "x:FP32[4]", "--server",
                             "torchserve"])  # fmt: skip
    assert "ultrathink export release four 2 --server torchserve" in " ".join(again.stdout.split())
    for words in (["release", "four", "2", "--reason", "tried"], ["rollback", "four"], ["recover"]):
        done = CLI.invoke(app, ["export", *words, "--server", "torchserve", "--json"])
        assert done.exit_code == 0, done.output
    told = json.loads(CLI.invoke(app, ["export", "history", "four", "--server", "torchserve", "--json"]).stdout)
    assert [(t["begun"]["action"], t["begun"]["version"], t["last"]["step"]) for t in told] == [
        ("release", 1, "done"), ("release", 2, "done"), ("rollback", 1, "done"),
    ]  # fmt: skip
    assert told[1]["begun"]["given"] == "tried"
    listed = json.loads(CLI.invoke(app, ["export", "list", "four", "--server", "torchserve", "--json"]).stdout)
    assert next((row["version"], row["in_triton"]) for row in listed) == (1, "ready")
    for words, says in (
        (["tune", "four"], "for Triton alone"),
        (["model", str(path), "--format", "onnx"], "TorchScript alone"),
    ):
        done = CLI.invoke(app, ["export", *words, "--server", "torchserve"])
        assert says in str(done.exception)


def test_archives_are_named_by_model_and_version():
    assert archive_name("times", 3) == "times-3.mar"


def test_a_server_that_is_not_there_is_a_sentence(tmp_path):
    from exporters.repository.repository import ModelRepository

    repository = ModelRepository(tmp_path / "models")
    with pytest.raises(ServiceUnavailable, match="stack up --with torchserve"):
        TorchServeServer(
            TorchServeManagement("http://127.0.0.1:1", fixed("x")), TorchServeInfer("127.0.0.1:1", fixed("x")),
            repository, 1,
        )  # fmt: skip

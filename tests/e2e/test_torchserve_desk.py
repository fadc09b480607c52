"""A desk that asks TorchServe decides as one that asks Triton."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing

import numpy as np
import pytest
from typer.testing import CliRunner

from connectors.triton.asking import ModelClient
from exporters.export import export_model, export_pipeline
from exporters.formats.torchserve import archive
from exporters.options import Options
from exporters.profiles import find, find_gpu
from exporters.release.releases import Releases
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from loadtest.open_loop.calls import ModelLoad, drive_model
from loadtest.open_loop.rows import feature_rows
from stack.chaos.evidence import read_all
from stack.chaos.feed import wait_until_decided
from stack.cli.main import app
from stack.processes.gateway import SeriesTopics, series_gateway
from stack.processes.own import PROGRAM, running
from stack.servers.kafka import create_topics
from stack.servers.settings import INFERENCE_TOKEN
from stack.servers.torchserve import inference_address
from tests.e2e.test_whose_log import PATIENT, Desk
from tests.paths import ROOT
from tests.torchserves import running_torchserve
from trading.decision.wire import decode_decision

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("exported"), pytest.mark.timeout(300)]
FUSED, TICKS = "trading_decision_fused", 1500
#: Single precision on another runtime; and what is so near a threshold may fall to either side of it.
OTHER_RUNTIME, NEAR = 1e-5, 1e-6
SAME = "trading_decision_torchscript"
#: What quantities are rounded to by the default limits.
LOT = 0.001


@pytest.fixture(scope="module")
def torchserve(stack, exported, tmp_path_factory):
    """One that serves what the stack's MLflow registered, as one model."""
    with running_torchserve(tmp_path_factory.mktemp("torchserve")) as one:
        options = Options(
            stack.mlflow_uri, find("25.03-py3"), find_gpu("rtx5070"), "challenger", format="torchscript"
        )
        with closing(one.connect()) as server:
            (published,) = export_pipeline("trading_decision", options, one.repository, lambda _: None, alone=True)
            assert (published.name, published.format) == (FUSED, "TorchScript")
            releases = Releases(one.repository, server, find_gpu("rtx5070"), lambda _: None)
            done = releases.release(FUSED, published.version)
            assert done.flip_rate == 0.0
        yield one


def token_file(one):
    return one.settings.absolute_home / "secrets" / INFERENCE_TOKEN


@pytest.fixture(scope="module")
def on_triton(stack, torchserve):
    """The very file that TorchServe serves, released on the stack's Triton under a name of its own."""
    path = torchserve.repository.folder(FUSED, 1) / "model.pt"
    repository = ModelRepository(stack.model_repository)
    options = Options(stack.mlflow_uri, find("25.03-py3"), find_gpu("rtx5070"), name=SAME, format="torchscript")
    version = export_model(str(path), options, repository, lambda _: None).version
    with closing(TritonServer(stack.triton_grpc)) as triton:
        Releases(repository, triton, find_gpu("rtx5070"), lambda _: None).release(SAME, version)
    return SAME


def test_both_servers_answer_alike(stack, torchserve, on_triton):
    """The same file to the last digits; the graph of ONNX by another runtime nearly."""
    rows = feature_rows()
    contract = torchserve.repository.lineage(FUSED, 1).contract
    with ModelClient(stack.triton_grpc) as triton, closing(torchserve.connect()) as server:
        same, onnx = (
            triton.infer(triton.model(name), {"features": rows}) for name in (on_triton, "trading_decision")
        )
        found = server.run(contract, 1)([rows])
    for spec, ours in zip(contract.outputs, found, strict=True):
        np.testing.assert_array_equal(ours, same[spec.name], err_msg=spec.name)
        far = np.abs(ours - onnx[spec.name]).max()
        assert far < OTHER_RUNTIME, spec.name


def test_the_same_pipeline_makes_the_same_file(stack, torchserve, monkeypatch):
    """In processes of their own, as commands are: a process mangles the names of what it has compiled before."""
    monkeypatch.setenv("ULTRATHINK_HOME", str(torchserve.settings.home))
    made = []
    for _ in range(2):
        done = subprocess.run(
            [PROGRAM, "export", "pipeline", "--server", "torchserve", "--json",
             "--mlflow-uri", stack.mlflow_uri],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (one,) = json.loads(done.stdout)["published"]
        version = one["version"]
        content = (torchserve.repository.folder(FUSED, version) / "model.pt").read_bytes()
        made.append((content, archive(torchserve.repository.lineage(FUSED, version).contract, 1, content)))
    assert made[0] == made[1]


def decided(stack, topics):
    found = [decode_decision(payload) for payload in read_all(stack.kafka_bootstrap, topics.decisions)]
    return {one.decision_id: one for one in found}


def series(stack, ticks, ends, name, **given):
    """What a series of gateways of its own decides of the same ticks."""
    topics = SeriesTopics(name, ticks)
    create_topics(stack, {topic: like for topic, like in topics.names.items() if topic != ticks})
    with running(series_gateway(stack, topics, "a", **PATIENT, **given)) as process:
        process.wait_for_partitions()
        assert wait_until_decided(stack, topics.series, ticks, ends, 60.0)
    return decided(stack, topics)


def test_a_gateway_decides_the_same_by_either(stack, torchserve, on_triton):
    desk = Desk(stack)
    desk.decide(TICKS)
    ticks, ends, name = desk.topics.ticks, desk.ends(), desk.topics.series
    ours = series(
        stack, ticks, ends, f"{name}-torchserve", server="torchserve", model_name=FUSED,
        torchserve_url=inference_address(torchserve.settings), torchserve_token_file=token_file(torchserve),
    )  # fmt: skip
    same = series(stack, ticks, ends, f"{name}-triton", model_name=on_triton)
    assert ours.keys() == same.keys()
    assert len(ours) == TICKS
    assert any(one.action.value != "hold" for one in ours.values())
    for key, one in ours.items():
        other = same[key]
        assert (one.action, one.reason, one.quantity, one.target_position, one.features) == (
            other.action, other.reason, other.quantity, other.target_position, other.features
        )  # fmt: skip
    # The graph of ONNX: a target that lies so near may be rounded to the next lot.
    apart = 0
    for key, other in decided(stack, desk.topics).items():
        one = ours[key]
        if one.target_position is not None and other.target_position is not None:
            assert one.target_position == pytest.approx(other.target_position, abs=NEAR)
        assert one.position_after == pytest.approx(other.position_after, abs=2 * LOT)
        apart += one.quantity != other.quantity
    assert apart < TICKS / 20


def test_the_open_model_loads_it_and_a_command_judges_that(torchserve, monkeypatch, tmp_path):
    found = drive_model(
        ModelLoad(
            inference_address(torchserve.settings), FUSED, speed="poisson:40/s", duration_s=5.0, warm_up_s=1.0,
            token_file=token_file(torchserve),
        )
    )  # fmt: skip
    assert (found.target, found.errors, found.missing) == ("torchserve", {}, 0)
    assert found.answered == found.planned > 100
    monkeypatch.setenv("ULTRATHINK_HOME", str(torchserve.settings.home))
    (tmp_path / "targets.yaml").write_text(
        "version: 1\ntargets: {torchserve: {min_samples: 20, max_error_ratio: 0}}\n"
    )
    done = CliRunner().invoke(
        app, ["loadtest", "torchserve", "--speed", "40/s", "--duration", "3s", "--warm-up", "0.5", "--json",
              "--targets", str(tmp_path / "targets.yaml"), "--out", str(tmp_path / "out")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verdict"] == "held"


def test_locust_loads_it(torchserve, tmp_path):
    from tests.integration.test_locust import easy, locust

    done = locust(
        *("-u", "2", "-r", "2", "--warm-up", "1", "--tags", "torchserve", "--model", FUSED, "--results", str(tmp_path / "out")),
        *("--torchserve-grpc", inference_address(torchserve.settings), "--torchserve-token-file", str(token_file(torchserve))),
        *easy(tmp_path, "torchserve-grpc"),
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert (done.returncode, "Traceback" in said) == (0, False), said
    assert "torchserve-grpc: held" in done.stdout

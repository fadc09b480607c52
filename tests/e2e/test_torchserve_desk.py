"""A desk that asks TorchServe decides as one that asks Triton."""

from __future__ import annotations

import json
from contextlib import closing

import numpy as np
import pytest
from typer.testing import CliRunner

from connectors.triton.asking import ModelClient
from exporters.export import export_pipeline
from exporters.options import Options
from exporters.profiles import find, find_gpu
from exporters.release.releases import Releases
from loadtest.open_loop.rows import feature_rows
from loadtest.open_loop.triton import TritonLoad, drive_triton
from stack.chaos.evidence import read_all
from stack.chaos.feed import wait_until_decided
from stack.cli.main import app
from stack.processes.gateway import SeriesTopics, series_gateway
from stack.processes.own import running
from stack.servers.kafka import create_topics
from stack.servers.settings import INFERENCE_TOKEN
from stack.servers.torchserve import inference_address
from tests.e2e.test_whose_log import PATIENT, Desk
from tests.torchserves import running_torchserve
from trading.decision.wire import decode_decision

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("exported"), pytest.mark.timeout(300)]
FUSED, TICKS = "trading_decision_fused", 1500
#: Single precision on another runtime; and what is so near a threshold may fall to either side of it.
PARITY, NEAR = 3e-7, 1e-6


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


def test_both_servers_answer_alike(stack, torchserve):
    rows = feature_rows()
    with ModelClient(stack.triton_grpc) as triton, closing(torchserve.connect()) as server:
        wanted = triton.infer("trading_decision", {"features": rows})
        contract = torchserve.repository.lineage(FUSED, 1).contract
        found = server.run(contract, 1)([rows])
    for spec, ours in zip(contract.outputs, found, strict=True):
        np.testing.assert_allclose(ours, wanted[spec.name], rtol=0, atol=PARITY, err_msg=spec.name)


def test_the_same_pipeline_makes_the_same_file(stack, torchserve):
    options = Options(stack.mlflow_uri, find("25.03-py3"), find_gpu("rtx5070"), "challenger", format="torchscript")
    (again,) = export_pipeline("trading_decision", options, torchserve.repository, lambda _: None, alone=True)
    first, second = (torchserve.repository.folder(FUSED, v) / "model.pt" for v in (1, again.version))
    assert first.read_bytes() == second.read_bytes()


def decided(stack, topics):
    found = [decode_decision(payload) for payload in read_all(stack.kafka_bootstrap, topics.decisions)]
    return {one.decision_id: one for one in found}


def test_a_gateway_decides_the_same_by_either(stack, torchserve):
    by_triton = Desk(stack)
    by_triton.decide(TICKS)
    topics = SeriesTopics(f"{by_triton.topics.series}-torchserve", by_triton.topics.ticks)
    create_topics(stack, {name: like for name, like in topics.names.items() if name != topics.ticks})
    given = {
        "server": "torchserve", "torchserve_url": inference_address(torchserve.settings), "model_name": FUSED,
        "torchserve_token_file": token_file(torchserve),
    }  # fmt: skip
    with running(series_gateway(stack, topics, "a", **PATIENT, **given)) as process:
        process.wait_for_partitions()
        assert wait_until_decided(stack, topics.series, topics.ticks, by_triton.ends(), 60.0)
    ours, theirs = decided(stack, topics), decided(stack, by_triton.topics)
    assert ours.keys() == theirs.keys()
    assert len(ours) == TICKS
    assert {one.model_name for one in ours.values() if one.warm} == {FUSED}
    apart, astray = 0, set()
    for name, one in sorted(ours.items(), key=lambda pair: (len(pair[0]), pair[0])):
        other = theirs[name]
        assert (one.warm, one.features) == (other.warm, other.features)
        if one.symbol in astray:
            continue
        if one.target_position is not None and other.target_position is not None:
            assert one.target_position == pytest.approx(other.target_position, abs=NEAR)
        if (one.action, one.quantity) != (other.action, other.quantity):
            # So near a threshold either side is right; from here on the two books differ.
            assert one.target_position == pytest.approx(other.target_position, abs=NEAR)
            apart += 1
            astray.add(one.symbol)
    assert any(one.action.value != "hold" for one in ours.values())
    assert apart <= 1


def test_the_open_model_loads_it_and_a_command_judges_that(torchserve, monkeypatch, tmp_path):
    found = drive_triton(
        TritonLoad(
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

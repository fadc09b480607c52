"""From MLflow to served, on real servers: models that are not ours, and the pipeline that is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow.models import infer_signature
from msgspec.structs import replace

from exporters.errors import Busy, ExportError, ParityError
from exporters.export import export_model, export_pipeline
from exporters.formats.config_pbtxt import Serving, render_json
from exporters.options import Options
from exporters.parity.difference import diff
from exporters.performance.latency import compare
from exporters.performance.tune import tune
from exporters.plots import parity_figure
from exporters.profiles import find, find_gpu
from exporters.release.candidate import CANDIDATE
from exporters.release.journal import Entry, Journal, ReleaseChange
from exporters.release.releases import Releases
from exporters.release.triton_client import TritonServer
from exporters.release.versions import prune, rows
from exporters.repository.repository import ModelRepository
from exporters.verify import verify
from gateway.adapters.triton import TritonPredictor
from stack.servers.ports import free_ports
from stack.supervision.status import read_status
from tests.unit.exporters.models import publish_times
from trading.errors import ServiceUnavailable
from trading.models.signature import contract

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(400, 6)).astype(np.float32)
CLASSES = (ROWS[:, 0] + ROWS[:, 1] * ROWS[:, 2] > 0).astype(np.int64)
VALUES = 3.0 * ROWS[:, 0] + ROWS[:, 1] ** 2


def quiet(_):
    """No progress."""


@pytest.fixture
def repository(stack):
    return ModelRepository(stack.model_repository)


@pytest.fixture
def triton(stack):
    server = TritonServer(stack.triton_grpc)
    yield server
    server.close()


OURS = ("regime_detection", "strategy_signals", "meta_controller", "trading_decision")


@pytest.fixture(autouse=True)
def tidy(repository, triton):
    """Each model is a process here: what a test released does not stay loaded for the next one."""
    yield
    for name in repository.names():
        if name not in OURS and repository.serving(name).versions:
            triton.unload(name)
            repository.configure(repository.lineage(name, repository.versions(name)[-1]).contract, Serving())


@pytest.fixture
def releases(repository, triton):
    return Releases(repository, triton, find_gpu("rtx5070"), quiet)


def options(stack, **given):
    return Options(stack.mlflow_uri, find("25.03-py3"), find_gpu("rtx5070"), **given)


def forest():
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(20, random_state=0).fit(ROWS, CLASSES)


def scaled():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, CLASSES)


def boosted(kind):
    import lightgbm
    import xgboost

    made = {
        "xgb_class": lambda: xgboost.XGBClassifier(n_estimators=20).fit(ROWS, CLASSES),
        "xgb_value": lambda: xgboost.XGBRegressor(n_estimators=20).fit(ROWS, VALUES),
        "lgb_class": lambda: lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(ROWS, CLASSES),
        "lgb_booster": lambda: lightgbm.LGBMRegressor(n_estimators=20, verbose=-1).fit(ROWS, VALUES).booster_,
    }
    return made[kind]()


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))

    def forward(self, readings):
        return torch.softmax(self.layers(readings), dim=1)


def log(stack, kind, module, model, answers, **given):
    """Register a model under a name of its own; returns the name."""
    mlflow.set_tracking_uri(stack.mlflow_uri)
    mlflow.set_experiment("others")
    name = f"other_{kind}"
    with warnings.catch_warnings(), mlflow.start_run():
        warnings.simplefilter("ignore")
        module.log_model(
            model, name="model", registered_model_name=name, input_example=ROWS[:20],
            signature=infer_signature(ROWS, answers), pip_requirements=["numpy"], **given,
        )  # fmt: skip
    return name


def logged(stack, kind):
    if kind == "forest":
        return log(stack, kind, mlflow.sklearn, forest(), CLASSES, skops_trusted_types=["sklearn.tree._tree.Tree"])
    if kind == "scaled":
        return log(stack, kind, mlflow.sklearn, scaled(), CLASSES)
    if kind.startswith("xgb"):
        return log(stack, kind, mlflow.xgboost, boosted(kind), CLASSES if "class" in kind else VALUES)
    if kind.startswith("lgb"):
        return log(stack, kind, mlflow.lightgbm, boosted(kind), CLASSES if "class" in kind else VALUES)
    net = Net().eval()
    answers = net(torch.from_numpy(ROWS)).detach().numpy()
    return log(stack, kind, mlflow.pytorch, net, answers, serialization_format="pt2")


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [
        ("forest", "label INT64 [1], probabilities FP32 [2]"),
        pytest.param("scaled", "label INT64 [1], probabilities FP32 [2]", marks=pytest.mark.slow),
        ("xgb_class", "label INT64 [1], probabilities FP32 [2]"),
        pytest.param("xgb_value", "output FP32 [1]", marks=pytest.mark.slow),
        pytest.param("lgb_class", "label INT64 [1], probabilities FP32 [2]", marks=pytest.mark.slow),
        pytest.param("lgb_booster", "output FP32 [1]", marks=pytest.mark.slow),
        ("torch", "output FP32 [3]"),
    ],
)
def test_a_model_that_is_not_ours_goes_from_mlflow_to_served_with_parity(
    stack, repository, releases, triton, kind, outputs, tmp_path
):
    name = logged(stack, kind)
    published = export_model(name, options(stack, max_batch=256, trust=kind == "forest"), repository, quiet)
    assert published.outputs == outputs
    assert published.source == f"models:/{name}/1"
    released = releases.release(name, published.version)
    assert released.parity_max_abs_diff <= 1e-5 * 20
    rows_file = tmp_path / "rows.npy"
    np.save(rows_file, ROWS)
    report = verify(name, None, repository, triton, stack.mlflow_uri, quiet, rows=rows_file, trust=kind == "forest")
    assert report.passed
    assert all(f.flipped == f.tied for f in report.flips)
    assert {d.where for d in report.differences} == {"file", "served"}
    assert {d.batch for d in report.differences} == {1, 2, 3, 64, 256}
    assert {d.rows for d in report.differences} == {"golden", "adversarial", "own"}
    parity_figure(report, tmp_path / "parity.png")
    assert (tmp_path / "parity.png").stat().st_size > 10_000
    # Not the exporter's word for it: the library's own answers.
    served = triton.run(repository.lineage(name, 1).contract, 1)([ROWS[:50]])
    if kind == "torch":
        wanted = Net().eval()(torch.from_numpy(ROWS[:50])).detach().numpy()
        np.testing.assert_allclose(served[0], wanted, atol=1e-6)
    elif kind == "forest":
        np.testing.assert_array_equal(served[0][:, 0], forest().predict(ROWS[:50]))
        np.testing.assert_allclose(served[1], forest().predict_proba(ROWS[:50]), atol=1e-6)


@pytest.mark.long
def test_half_precision_is_smaller_and_within_its_own_tolerance(stack, repository, triton):
    mlflow.set_tracking_uri(stack.mlflow_uri)
    name = logged(stack, "torch")
    full = export_model(name, options(stack, max_batch=64), repository, quiet)
    half = export_model(name, options(stack, max_batch=64, precision="fp16", variant="half"), repository, quiet)
    assert half.name == f"{name}_half"
    assert half.weights_mib < full.weights_mib
    assert 0 < half.parity_max_abs_diff < 2e-2
    report = verify(half.name, half.version, repository, triton, stack.mlflow_uri, quiet)
    assert report.passed
    assert report.tolerance["served"] == 2e-2
    assert not any(m.name.startswith(half.name) and m.state == "READY" for m in triton.index())


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("nosuch", "no model 'nosuch' is registered: there is .*regime_detection"),
        ("regime_detection@champion", "no alias 'champion'; its aliases: challenger"),
        ("regime_detection/77", "no version '77'; its versions: 1"),
        ("models:/regime_detection/77", "no version '77'"),
        ("runs:/0123456789abcdef0123456789abcdef/model", "cannot be fetched"),
        ("it's", "is no model's name"),
    ],
)
@pytest.mark.usefixtures("trained")
def test_what_is_not_registered_is_named_with_what_is(stack, repository, reference, says):
    with pytest.raises(ExportError, match=says):
        export_model(reference, options(stack), repository, quiet)


@pytest.mark.usefixtures("trained")
def test_every_kind_of_reference_finds_the_same_model(stack, repository):
    run_id = mlflow.MlflowClient(stack.mlflow_uri).get_model_version("regime_detection", "1").run_id
    dry = options(stack, dry_run=True, name="regime_detection")
    for reference in (
        "regime_detection", "regime_detection@challenger", "regime_detection/1", "models:/regime_detection/1",
        "models:/regime_detection@challenger", f"runs:/{run_id}/model",
    ):  # fmt: skip
        done = export_model(reference, dry, repository, quiet)
        assert done.run_id == run_id
        assert done.parity_max_abs_diff < 1e-5


@pytest.mark.usefixtures("trained")
def test_the_fused_pipeline_answers_as_the_ensemble_and_serves_the_gateway(stack, repository, releases, triton):
    published = export_pipeline(
        "trading_decision", options(stack, alias="challenger"), repository, quiet, fuse=True
    )
    ensemble, fused = published[-2:]
    assert (ensemble.name, fused.name) == ("trading_decision", "trading_decision_fused")
    for done in (ensemble, fused):
        releases.release(done.name, done.version)
    for name in (ensemble.name, fused.name):
        report = verify(name, None, repository, triton, stack.mlflow_uri, quiet)
        assert report.passed
        assert report.flip_rate == 0.0
        assert "order" in report.actions
    rows_in = repository.golden(contract(fused.name), fused.version)[0]
    answers = [triton.run(contract(p.name), p.version)(rows_in) for p in (ensemble, fused)]
    for a, b in zip(*answers, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    measured = compare(
        stack.triton_grpc,
        (contract(ensemble.name), ensemble.version),
        (contract(fused.name), fused.version),
        batch=1,
        seconds=0.6,
    )
    assert measured.a.calls > 10
    assert measured.b.calls > 10
    predictor = TritonPredictor(stack.triton_grpc, fused.name, "")
    prediction = predictor.predict(rows_in[0], 5.0)
    predictor.close()
    assert prediction.valid.all()


def test_a_version_that_does_not_answer_as_its_source_is_never_served(repository, releases, triton, tmp_path):
    publish_times(repository, tmp_path, 2.0, name="probed")
    releases.release("probed", 1)
    publish_times(repository, tmp_path, 3.0, name="probed")
    lie(repository, "probed", 2)
    with pytest.raises(ParityError, match="probe mismatch, version 2"):
        releases.release("probed", 2)
    assert repository.serving("probed").versions == (1,)
    assert triton.ready("probed") == {1}
    assert Journal(repository.state / "journal.jsonl").transactions("probed")[-1].last.step == "undone"
    assert not any(triton.is_loaded(name + CANDIDATE) for name in repository.names())


def lie(repository, name, version):
    """Replace the source's golden answers, and the hash, as a broken exporter would have."""
    import hashlib

    import msgspec

    lineage = repository.lineage(name, version)
    asked, wanted = repository.golden(lineage.contract, version)
    path = repository.folder(name, version) / "golden.npz"
    np.savez(path, in_x=asked[0], out_y=wanted[0] + 1)
    files = {**lineage.files, "golden.npz": hashlib.sha256(path.read_bytes()).hexdigest()}
    (path.parent / "lineage.json").write_bytes(msgspec.json.encode(replace(lineage, files=files)))


def test_a_version_that_does_not_load_leaves_the_server_as_it_was(stack, repository, releases, triton, tmp_path):
    publish_times(repository, tmp_path, 2.0, name="broken")
    contract_ = repository.lineage("broken", 1).contract
    rubbish = tmp_path / "rubbish"
    rubbish.mkdir()
    with repository.lock("broken"), repository.stage("broken") as folder:
        (folder / "model.onnx").write_bytes(b"rubbish")
        asked, wanted = repository.golden(contract_, 1)
        version = repository.publish(repository.lineage("broken", 1), folder, asked, wanted)
    with pytest.raises(ExportError, match="does not load broken"):
        releases.release("broken", version)
    assert repository.serving("broken").versions == ()
    states = {(m.name, m.state, m.reason) for m in triton.index() if m.name == "broken" + CANDIDATE}
    assert all(state == "UNAVAILABLE" and reason == "unloaded" for _, state, reason in states)
    releases.release("broken", 1)
    assert triton.ready("broken") == {1}


def test_release_rollback_list_diff_prune(repository, releases, triton, tmp_path):
    for factor in (1.0, 2.0, 3.0, 4.0):
        publish_times(repository, tmp_path, factor, name="story")
    for version in (1, 2, 4):
        done = releases.release("story", version)
        assert done.alone == ""
        assert done.previous == {1: None, 2: 1, 4: 2}[version]
        assert done.parity_max_abs_diff == 0.0
    assert repository.serving("story").versions == (2, 4)
    back = releases.rollback("story", reason="it drifts")
    assert (back.version, back.previous) == (2, 4)
    # The version that was rolled back from is gone, so that nobody is answered by it any more.
    assert repository.serving("story").versions == (2,)
    index = {(m.name, m.version): m.state for m in triton.index()}
    assert [(r.version, r.state) for r in rows(repository, index, "story")] == [
        (1, "last good"), (2, "served"), (3, "published"), (4, "published"),
    ]  # fmt: skip
    with pytest.raises(ExportError, match="already serves version 2"):
        releases.rollback("story", 2)
    with pytest.raises(ExportError, match="has no version 9"):
        releases.rollback("story", 9)
    with pytest.raises(ExportError, match="story 3 was never released: .*export release story 3"):
        releases.rollback("story", 3)
    with pytest.raises(ExportError, match="there is no model 'nosuch'"):
        releases.rollback("nosuch")
    found = diff(repository, "story", 1, 2)
    assert found.max_abs_diff > 0
    assert any(c.what == "weight factor" for c in found.changed)
    assert [v for v, _ in prune(repository, "story", 0)] == [3, 4]
    assert [
        (t.begun.action, t.begun.version, t.last.step, t.begun.given)
        for t in Journal(repository.state / "journal.jsonl").transactions("story")
    ] == [
        ("release", 1, "done", ""), ("release", 2, "done", ""), ("release", 4, "done", ""),
        ("rollback", 2, "done", "it drifts"),
    ]  # fmt: skip
    assert releases.rollback("story").version == 1


def test_a_version_of_another_contract_takes_over_alone_and_gives_back(repository, releases, triton, tmp_path):
    publish_times(repository, tmp_path, 1.0, name="wider", max_batch=64)
    publish_times(repository, tmp_path, 2.0, name="wider", max_batch=128)
    assert releases.release("wider", 1).alone == ""
    assert "its largest batch is 128, and 64 in version 1" in releases.release("wider", 2).alone
    # One configuration governs all versions, and theirs differ: the old one is not kept.
    assert triton.ready("wider") == {2}
    assert "max_batch_size: 128" in (repository.root / "wider" / "config.pbtxt").read_text()
    releases.rollback("wider")
    assert triton.ready("wider") == {1}
    assert "max_batch_size: 64" in (repository.root / "wider" / "config.pbtxt").read_text()


def test_an_interrupted_release_is_undone_even_when_its_version_is_gone(repository, releases, triton, tmp_path):
    for factor in (1.0, 2.0):
        publish_times(repository, tmp_path, factor, name="vanished")
    releases.release("vanished", 1)
    journal = Journal(repository.state / "journal.jsonl")
    change = ReleaseChange("vanished", Serving((1,)), Serving((1, 2)))
    journal.append(Entry("gone", "begun", "release", "vanished", 2, "t", "u", (change,)))
    assert prune(repository, "vanished", 0) == []
    repository.remove("vanished", 2)
    assert [t.begun.id for t in releases.recover().settled] == ["gone"]
    assert triton.ready("vanished") == {1}
    assert not journal.transactions("vanished")[-1].open


def test_what_the_card_could_not_hold_is_refused_before_it_is_loaded(repository, releases, triton, tmp_path):
    publish_times(repository, tmp_path, 2.0, name="greedy")
    repository.configure(repository.lineage("greedy", 1).contract, Serving(instances=500))
    with pytest.raises(ExportError, match=r"GeForce RTX 5070 would need .* greedy 1 alone takes .*500 instances"):
        releases.release("greedy", 1)
    assert triton.ready("greedy") == set()
    repository.configure(repository.lineage("greedy", 1).contract, Serving())


@pytest.mark.long
def test_a_step_cannot_go_below_what_an_ensemble_pins(stack, repository, releases, exported):
    pinned = repository.serving("trading_decision").pins["regime_detection"]
    again = export_pipeline("trading_decision", options(stack, alias="challenger"), repository, quiet)
    releases.release("trading_decision", again[-1].version)
    with pytest.raises(ExportError, match="is pinned by an ensemble"):
        releases.release("regime_detection", pinned)
    before = repository.serving("trading_decision")
    back = releases.rollback("trading_decision")
    assert back.version < before.released
    assert (
        repository.serving("regime_detection").released
        == repository.serving("trading_decision").pins["regime_detection"]
    )


def test_tune_measures_every_setting_on_copies(repository, triton, tmp_path):
    publish_times(repository, tmp_path, 2.0, name="tuned")
    found = tune("tuned", None, repository, triton, 0.1, quiet)
    assert [(s.instances, s.queue_delay_us) for s in found.settings] == [
        (1, None), (1, 0), (1, 200), (2, None), (2, 0),
    ]  # fmt: skip
    assert all(m.calls > 0 and m.p99_ms >= m.p50_ms for s in found.settings for m in s.measured)
    assert found.recommended in found.settings
    assert triton.ready("tuned") == set()
    with pytest.raises(ExportError, match="is an ensemble"):
        tune("trading_decision", None, repository, triton, 0.1, quiet)


def cli(stack, *arguments, **environment):
    program = Path(sys.executable).parent / "ultrathink"
    return subprocess.run(
        [program, "export", *arguments], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "ULTRATHINK_HOME": str(stack.home), **environment},
    )  # fmt: skip


@pytest.mark.usefixtures("exported")
def test_the_command_line_verifies_and_logs_the_evidence_to_the_run(stack, tmp_path):
    done = cli(stack, "verify", "regime_detection", "--json", "--plot", str(tmp_path / "p.png"))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    assert (tmp_path / "p.png").is_file()
    client = mlflow.MlflowClient(stack.mlflow_uri)
    run_id = client.get_model_version("regime_detection", "1").run_id
    logged_files = {f.path for f in client.list_artifacts(run_id, "verify")}
    stem = f"verify/regime_detection-{report['version']}"
    assert {f"{stem}.json", f"{stem}.png"} <= logged_files
    assert client.get_run(run_id).data.metrics["parity_flip_rate"] == 0.0


@pytest.mark.usefixtures("exported")
def test_every_list_is_json_for_scripts(stack):
    found = json.loads(cli(stack, "list", "--json").stdout)
    assert any(r["model"] == "trading_decision" and r["serving"] for r in found)
    history = cli(stack, "history", "trading_decision", "--json")
    assert history.returncode == 0, history.stderr
    assert json.loads(history.stdout)[0]["last"]["step"] == "done"
    doctor = cli(stack, "doctor", "--json")
    told = json.loads(doctor.stdout)
    assert doctor.returncode == {"fits": 0, "does not fit": 1, "cannot tell": 3}[told["verdict"]]
    assert any(
        f["check"] == "torch has kernels for GeForce RTX 5070" and f["verdict"] == "fits" for f in told["findings"]
    )
    wrong = cli(stack, "doctor", "--gpu", "h200", "--json")
    assert any("H200" in f["check"] for f in json.loads(wrong.stdout)["findings"])


@pytest.mark.slow
def test_a_triton_that_is_down_is_a_sentence(stack, repository, tmp_path):
    publish_times(repository, tmp_path, 2.0, name="lonely")
    (port,) = free_ports(1)
    done = cli(stack, "release", "lonely", "1", "--triton-url", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    done = cli(stack, "model", "regime_detection", "--mlflow-uri", f"http://127.0.0.1:{port}")
    assert done.returncode == 1
    assert "MLflow at" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(ServiceUnavailable):
        TritonServer(f"127.0.0.1:{port}")


def test_another_repository_than_the_servers_is_noticed_before_anything_begins(
    repository, releases, triton, tmp_path
):
    """Also where it has the same model, in an equal or another version: what is live stays live."""
    publish_times(repository, tmp_path, 2.0, name="live")
    releases.release("live", 1)
    elsewhere = ModelRepository(tmp_path / "elsewhere" / "models")
    for name, factor in (("absent", 2.0), ("live", 2.0), ("live", 3.0)):
        version = publish_times(elsewhere, tmp_path, factor, name=name)
        with pytest.raises(ExportError, match=f"does not serve from {elsewhere.root}"):
            Releases(elsewhere, triton, find_gpu("rtx5070"), quiet).release(name, version)
        assert elsewhere.serving(name).versions == ()
    assert triton.ready("live") == {1}
    assert triton.ready("absent") == set()
    releases.probe("live", 1)


def test_what_somebody_else_has_loaded_is_not_replaced(repository, releases, triton, tmp_path):
    """The server has the name, and this repository does not say that it serves it."""
    publish_times(repository, tmp_path, 2.0, name="theirs")
    lineage = repository.lineage("theirs", 1)
    content = (repository.folder("theirs", 1) / "model.onnx").read_bytes()
    triton.load_copy(
        lineage.contract, render_json(lineage.contract, "cpu", Serving(versions=(1,), real_rows=False)), 1, content
    )
    try:
        with pytest.raises(ExportError, match="serves theirs 1, and .* does not say so"):
            releases.release("theirs", 1)
        assert triton.ready("theirs") == {1}
    finally:
        triton.unload("theirs")


def test_two_exporters_at_once(repository, releases, tmp_path):
    publish_times(repository, tmp_path, 2.0, name="contested")
    with repository.lock("contested"):
        with pytest.raises(Busy, match="another exporter holds contested"):
            releases.release("contested", 1)
        with pytest.raises(Busy):
            publish_times(repository, tmp_path, 3.0, name="contested")
    releases.release("contested", 1)


@pytest.mark.slow
def test_a_server_that_restarts_in_the_middle_is_waited_for(stack, repository, triton, tmp_path):
    publish_times(repository, tmp_path, 2.0, name="patient")
    killed = threading.Event()

    def progress(text):
        if "load" in text and not killed.is_set():
            killed.set()
            status = read_status(stack.absolute_home)
            os.kill(next(s for s in status.services if s.name == "triton").process.pid, signal.SIGKILL)

    done = Releases(repository, triton, find_gpu("rtx5070"), progress).release("patient", 1)
    assert killed.is_set()
    assert done.version == 1
    assert triton.ready("patient") == {1}
    deadline = time.monotonic() + 30
    while not read_status(stack.absolute_home).ready:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_a_restarted_server_serves_what_was_released_and_nothing_else(
    stack, repository, releases, triton, tmp_path
):
    for factor in (1.0, 2.0):
        publish_times(repository, tmp_path, factor, name="restarted")
    releases.release("restarted", 1)
    status = read_status(stack.absolute_home)
    before = next(s for s in status.services if s.name == "triton").process.pid
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + 40
    while True:
        triton_status = next(s for s in read_status(stack.absolute_home).services if s.name == "triton")
        if triton_status.state == "ready" and triton_status.process.pid != before:
            break
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert triton.ready("restarted") == {1}

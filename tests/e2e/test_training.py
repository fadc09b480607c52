"""A training on the real MLflow: killed and resumed to the same models, evidence complete, promoted by gates only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from typer.testing import CliRunner

from stack.cli.main import app
from trainers.registry.promotion import PIPELINE

SOURCE = "simulate:regimes?seed=6&ticks=12000&symbols=2"
CLI = CliRunner()


def train(stack, *more):
    program = Path(sys.executable).parent / "ultrathink"
    return subprocess.Popen(
        [program, "--home", str(stack.absolute_home), "train", "all", "--data", SOURCE, "--epochs", "8", "--json", *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def finished(process):
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return json.loads(out)


def models(report, folder):
    """The registered networks, as MLflow keeps them."""
    found = {}
    for model in report["models"]:
        path = mlflow.artifacts.download_artifacts(
            f"models:/{model['name']}/{model['version']}", dst_path=str(folder / model["version"] / model["name"])
        )
        (file,) = Path(path).rglob("model.p*")
        found[model["name"]] = torch.jit.load(str(file))
    return found


@pytest.fixture
def client(stack):
    mlflow.set_tracking_uri(stack.mlflow_uri)
    return MlflowClient(stack.mlflow_uri)


@pytest.fixture(autouse=True)
def _tidy(client, exported):
    """Other tests take the newest versions and the challengers for those of the session: they shall be."""

    def state():
        found = {name: client.get_registered_model(name).aliases for name in PIPELINE}
        return {name: dict(aliases) for name, aliases in found.items()}

    def versions(name):
        return {v.version for v in client.search_model_versions(f"name='{name}'")}

    aliases, known = state(), {name: versions(name) for name in PIPELINE}
    yield
    for name in PIPELINE:
        for alias in state()[name].keys() - aliases[name].keys():
            client.delete_registered_model_alias(name, alias)
        for alias, version in aliases[name].items():
            client.set_registered_model_alias(name, alias, version)
        for version in versions(name) - known[name]:
            client.delete_model_version(name, version)


@pytest.mark.long
def test_a_training_that_is_killed_goes_on_to_the_same_models(stack, client, tmp_path):
    whole = finished(train(stack))
    victim = train(stack)
    deadline = time.monotonic() + 120
    while not list((stack.absolute_home / "training").glob("*/fold 2 of 3-regime_detection*.pt")):
        assert victim.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    resumed = finished(train(stack))
    assert "exit 137" in resumed["resumed"]
    assert whole["resumed"] == ""
    assert list((stack.absolute_home / "training").iterdir()) == []
    one, other = models(whole, tmp_path), models(resumed, tmp_path)
    for name in PIPELINE:
        mine, its = one[name].state_dict(), other[name].state_dict()
        assert mine.keys() == its.keys()
        assert all(torch.equal(mine[k], its[k]) for k in mine)
    assert resumed["verdict"] == whole["verdict"]
    # The run that the kill left open was taken up again, not left for dead.
    open_runs = [r for r in client.search_runs([client.get_experiment_by_name("ultrathink").experiment_id])
                 if r.info.status == "RUNNING"]  # fmt: skip
    assert open_runs == []


def test_a_training_leaves_its_whole_evidence_in_mlflow(stack, client, trained):
    run = client.get_run(trained.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["kind"] == "training"
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.digest
    assert any(key.startswith("system/") for key in run.data.metrics)
    assert {"tear_sheet.html", "dataset.json"} <= {f.path for f in client.list_artifacts(trained.run_id)}
    for model in trained.models:
        version = client.get_model_version(model.name, model.version)
        assert "Intended use" in version.description
        assert version.tags["training"] == trained.run_id
        assert version.tags["data_hash"] == trained.data_hash
        inner = client.get_run(model.run_id)
        assert inner.data.tags["mlflow.parentRunId"] == trained.run_id
        assert len(client.get_metric_history(model.run_id, "loss")) > 1
        files = {f.path for f in client.list_artifacts(model.run_id)}
        assert {"model_card.md", "plots"} <= files
        kept = mlflow.models.get_model_info(f"models:/{model.name}/{model.version}")
        assert kept.signature is not None
        assert kept.saved_input_example_info is not None
    assert {f.path for f in client.list_artifacts(trained.models[0].run_id, "plots")} >= {
        "plots/regimes.png", "plots/calibration.png", "plots/transitions.png"
    }  # fmt: skip
    first = Path(trained.sheet).read_text().split('<p class="verdict">')[1]
    assert first[1:40] == trained.verdict[1:40]


def test_promotion_needs_every_gate_or_a_name_that_answers_for_it(stack, client, trained):
    def promote(*more):
        done = CLI.invoke(app, ["train", "promote", "--reason", "test", "--json", *more])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, json.loads(done.stdout)

    versions = {m.name: m.version for m in trained.models}
    for name, version in versions.items():
        client.set_registered_model_alias(name, "challenger", version)
    code, looked = promote("--dry-run")
    failed = [g["name"] for g in looked["gates"] if not g["passed"]]
    assert looked["run_id"] == ""
    assert code == (1 if failed else 0)
    if failed:
        code, refused = promote()
        assert (code, refused["promoted"]) == (1, False)
        assert client.get_run(refused["run_id"]).data.tags["outcome"] == "refused"
        assert all("champion" not in client.get_registered_model(name).aliases for name in PIPELINE)
    overrides = [word for name in failed for word in ("--override", name)]
    code, granted = promote(*overrides)
    assert (code, granted["promoted"], granted["versions"]) == (0, True, versions)
    for name, version in versions.items():
        champion = client.get_model_version_by_alias(name, "champion")
        assert str(champion.version) == version
        assert champion.tags["promotion_reason"] == "test"
        assert champion.tags["promoted_by"]
        assert json.loads(champion.tags["promotion_overrides"]) == failed
    wrong = CLI.invoke(app, ["train", "promote", "--reason", "x", "--override", "no such gate"])
    assert "no gate is called no such gate" in str(wrong.exception)
    missing = CLI.invoke(app, ["train", "promote", "--reason", "x", "--version", "nobody"])
    assert "has no version 'nobody'" in str(missing.exception)


@pytest.mark.slow
def test_a_queue_runs_what_it_can_and_names_what_it_cannot(stack, client, tmp_path):
    experiments = [
        {"name": f"seed {k}", "data": SOURCE, "seed": k, "epochs": 1, "folds": 1, "teacher": "hmm"}
        for k in range(3)
    ]
    experiments.append({"name": "tight", "data": SOURCE, "memory": "100M"})
    file = tmp_path / "experiments.yaml"
    file.write_text(json.dumps(experiments))
    done = CLI.invoke(app, ["train", "queue", str(file), "--jobs", "2", "--json"])
    assert done.exit_code == 1
    outcomes = {o["name"]: o for o in json.loads(done.stdout)}
    assert [name for name, o in outcomes.items() if o["result"] is None] == ["tight"]
    assert "below the" in outcomes["tight"]["why"]
    runs = client.search_runs(
        [client.get_experiment_by_name("ultrathink").experiment_id], "tags.kind = 'trial'", max_results=100
    )
    assert {r.info.run_name for r in runs} >= set(outcomes)
    for text, says in (
        ("- {name: a, nonsense: 1}", "no list of experiments"),
        ("- {name: a}\n- {name: a}", "a comes twice"),
        ("[]", "is empty"),
    ):
        file.write_text(text)
        wrong = CLI.invoke(app, ["train", "queue", str(file)])
        assert says in str(wrong.exception)


@pytest.mark.long
def test_a_search_is_nested_in_mlflow_and_judged_on_rows_that_no_trial_saw(stack, client):
    done = CLI.invoke(app, ["train", "search", "--data", SOURCE, "--trials", "2", "--jobs", "2", "--json"])
    assert done.exit_code == 0, done.exception
    report = json.loads(done.stdout)
    assert report["found"]["complete"] + report["found"]["pruned"] == 2
    experiment = client.get_experiment_by_name("ultrathink").experiment_id
    (parent,) = client.search_runs([experiment], "attributes.run_name LIKE 'search %'", max_results=10)
    inner = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", max_results=10)
    assert {r.info.run_name for r in inner} == {"trial 0", "trial 1"}
    assert all("learning_rate" in r.data.params and "mean_t" in r.data.metrics for r in inner)
    meta = client.get_run(report["training"]["models"][-1]["run_id"])
    assert float(meta.data.params["first_test"]) == 0.75
    assert int(meta.data.params["trials"]) == 2
    # Twelve ways to trade, and the trials.
    assert meta.data.metrics["trials"] == 12 + 2

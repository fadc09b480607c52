"""A shadow of a desk that decides: the challenger is asked for what the desk saw, and the desk is not moved."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from typer.testing import CliRunner

from connectors.kafka.reading import read_to_end
from connectors.kafka.watermarks import bounds
from exporters import profiles
from exporters.export import export_pipeline
from exporters.options import Options
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from gateway.control.control import Control
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from stack.cli.main import app
from stack.processes.gateway import SeriesTopics, series_gateway
from stack.servers.kafka import create_topics
from tests.waiting import eventually
from trading.decision.wire import decode_decision
from trading.errors import ConfigurationError
from trading.history import open_source
from trading.models.copies import RECALLED
from trading.risk.limits import LimitsFile

CLI = CliRunner()
PATIENT = {"budget_ms": "86400000", "reserve_ms": "0", "shed_below_ms": "0"}
LIMITS = LimitsFile(defaults={"max_staleness_s": None, "max_drawdown": None})
COUNT, SOURCE = 6000, "simulate:regimes?seed=11&ticks=6000&symbols=4"
TEXT = """\
version: 1
name: fused
champion: {{model: trading_decision, version: {champion}}}
challengers:
  - {{arm: fused, model: trading_decision_fused, version: {challenger}}}
primary: {{effect: 0.5}}
block: 250ms
at_least: {{span: 30s}}
guardrails:
  - {{metric: error_rate, tolerance: 0.01}}
  - {{metric: drawdown, tolerance: 500}}
"""


@pytest.fixture(scope="module")
def fused(stack, exported):
    """The version of the pipeline as one graph, which is published and not served."""
    gpu, container = profiles.find_gpu(profiles.DEFAULT_GPU), profiles.find(profiles.DEFAULT_CONTAINER)
    repository = ModelRepository(stack.model_repository)
    options = Options(stack.mlflow_uri, container, gpu, "challenger")
    published = export_pipeline("trading_decision", options, repository, lambda _: None, fuse=True)
    (one,) = (p for p in published if p.name == "trading_decision_fused")
    return one.version


@pytest.fixture(scope="module")
def desk(stack, fused, exported, tmp_path_factory):
    """Topics of their own, decided by a gateway that pins the ensemble."""
    topics = SeriesTopics("shadowed", "shadowed.ticks")
    create_topics(stack, topics.names)
    champion = next(one.version for one in exported if one.name == "trading_decision")
    Control(stack.kafka_bootstrap, topics.control, stack.redis_url).apply(
        LIMITS, "no staleness of a recording", "test"
    )
    gateway = series_gateway(stack, topics, "one", model_version=str(champion), **PATIENT)
    gateway.start()
    try:
        gateway.wait_for_partitions()
        ticks = open_source(SOURCE).records()
        TickPublisher(stack.kafka_bootstrap, topics.ticks).publish(plan(ticks, Speed("constant", rate_hz=2000.0)))
        eventually(lambda: len(decided(stack, topics)) == COUNT)
    finally:
        gateway.kill()
    return topics, champion


def decided(stack, topics):
    return [
        decode_decision(message.value())
        for partition in range(stack.partitions)
        for messages in read_to_end(stack.kafka_bootstrap, topics.decisions, partition, 0)
        for message in messages
    ]


@pytest.fixture
def command(stack, desk, fused, tmp_path, monkeypatch):
    """Runs `experiment shadow` on a definition."""
    topics, champion = desk
    monkeypatch.setenv("ULTRATHINK_HOME", str(stack.home))
    for name, value in topics.settings().items():
        monkeypatch.setenv(f"ULTRATHINK_GATEWAY_{name.upper()}", value)

    def run(*words, **versions):
        file = tmp_path / "experiment.yaml"
        file.write_text(TEXT.format(**{"champion": champion, "challenger": fused, **versions}))
        return CLI.invoke(app, ["experiment", "shadow", str(file), "--share", "1.0", *words])

    return run


def test_the_same_pipeline_in_another_form_is_found_equal(stack, desk, command, tmp_path):
    topics, _ = desk
    before = [bounds(stack.kafka_bootstrap, topics.decisions, p) for p in range(stack.partitions)]
    page = tmp_path / "shadow.html"
    done = command("--json", "--out", str(page))
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["decisions"], told["ended"]) == (COUNT, "")
    (one,) = told["evaluation"]["challengers"]
    assert told["evaluation"]["blocks"] > 100
    # One graph and an ensemble differ by rounding: what each trades is nearly the same.
    assert abs(one["interval"]["mean"]) < 0.1
    assert one["verdict"] in {"equal", "undecided"}
    assert [(g["metric"], g["breach"]) for g in one["guarded"]] == [("error_rate", None), ("drawdown", None)]
    assert one["guarded"][0]["challenger"] == 0.0
    text = page.read_text()
    assert one["sentence"] in text.replace("&#39;", "'")
    assert text.count('src="data:image/png;base64,') == 2
    assert [bounds(stack.kafka_bootstrap, topics.decisions, p) for p in range(stack.partitions)] == before
    # What was loaded for it is gone again.
    with closing(TritonServer(stack.triton_grpc)) as triton:
        assert not [one for one in triton.index() if RECALLED in one.name and one.state == "READY"]


def test_a_person_is_told_in_a_sentence_and_a_table(stack, desk, command):
    topics, _ = desk
    done = command()
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(("Fused earns what the champion earns", "Fused may be better or worse"))
    decisions = decided(stack, topics)
    assert {d.model_name for d in decisions if d.model_version} == {"trading_decision"}
    assert "6,000 decisions" in " ".join(done.stdout.split())


def test_decisions_of_another_champion_are_not_compared(command):
    done = command(champion=99)
    assert done.exit_code == 1, done.output
    told = " ".join(done.stdout.split())
    assert "nothing can be said of fused yet" in told.lower()
    assert "and the experiment's champion is trading_decision/99" in told


@pytest.mark.parametrize("version", [98, 999])
def test_a_version_that_is_not_served_is_refused(command, version):
    done = command(challenger=version)
    assert isinstance(done.exception, ConfigurationError)
    assert f"challenger fused: version {version} of trading_decision_fused is not served" in str(done.exception)
    assert "cannot be loaded beside what is" in str(done.exception)


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_asked(command, tmp_path):
    done = command("--out", str(tmp_path))
    assert isinstance(done.exception, ConfigurationError)
    assert "is a folder" in str(done.exception)

"""A whole cycle on a desk of its own, by itself: from data to a champion, and from worse data to a reason why not."""

from __future__ import annotations

import json
import os
import threading
from contextlib import ExitStack, contextmanager

import pytest
from typer.testing import CliRunner

from gateway.control.control import Control
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from stack.cli.main import app
from stack.demo.experiment import FUSED, HORIZON, PATIENT, TAUGHT
from stack.demo.run import LIMITS
from stack.processes.experiments import running_experiments
from stack.processes.gateway import running_gateway
from stack.processes.orchestrator import running_orchestrator
from stack.processes.settings import gateway_settings
from stack.servers.settings import ServerPorts, StackSettings
from stack.workflows.experiments.commanding import experiment_of
from stack.workflows.experiments.deciding import decides
from stack.workflows.export_workflow import export
from stack.workflows.training.settings import TrainRequest
from stack.workflows.training.train import train
from tests.stacks import running_stack
from tests.waiting import eventually
from trading.history import open_source
from trading.risk import limits_file
from trainers.orchestrator.cycle import KINDS
from trainers.registry import aliases, champions

CLI = CliRunner()
MARKET = "simulate:signal?seed=99&ticks=400000&symbols=4"
SPEC = {
    "training": {"horizon": HORIZON, "folds": 1},
    # What one fold of a simulated market cannot show: what is asked here is what live ticks show.
    "overrides": {"tester": ["edge", "deflated sharpe", "overfitting probability", "agreement", "calibration error",
                             "disruption mean", "best information coefficient", "beats equal weights",
                             "beats the best single strategy"]},
    "comparison": {
        "block": "1s", "planned_blocks": 600, "primary": {"effect": 0.01}, "at_least": {"blocks": 100, "span": "1m"},
        "guardrails": [{"metric": "drawdown", "tolerance": 8.0}, {"metric": "error_rate", "tolerance": 0.5}],
        "shadow_blocks": 20, "steps": [0.1, 0.5, 1.0], "step_blocks": 5, "most": "1h",
    },
    # Whatever trades is wilder than the champion here, which knows nothing and dares little.
    "guard": {"volatility": 100.0},
}  # fmt: skip


@contextmanager
def desk(tmp_path):
    """A gateway that decides by a champion that knows nothing, watchers, and an orchestrator; ticks come."""
    settings = StackSettings(
        profile="servers",
        home=tmp_path / "home",
        ports=ServerPorts.automatic(),
        model_repository=tmp_path / "models",
    )
    with ExitStack() as opened:
        opened.enter_context(running_stack(settings))
        opened.enter_context(environment(ULTRATHINK_GATEWAY_MODEL_NAME=FUSED))
        train(TrainRequest((TAUGHT["champion"],), horizon=HORIZON, folds=1), lambda *_: None)
        export(lambda _: None, fuse=True)
        control = Control(settings.kafka_bootstrap, gateway_settings().control_topic, settings.redis_url)
        control.apply(limits_file.read(LIMITS), "a test's desk", "tester")
        opened.enter_context(running_experiments(settings, share=1.0, keep_s=0.5))
        gateway = opened.enter_context(running_gateway(settings, **PATIENT))
        opened.enter_context(running_orchestrator(settings, memory_mb=6000, desk_metrics=""))
        yield settings, gateway


@contextmanager
def environment(**values):
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class Feed:
    """A market whose ticks come while somebody wants them, and go on where they stood."""

    def __init__(self, settings, market=MARKET):
        self._publisher = TickPublisher(settings.kafka_bootstrap, gateway_settings().ticks_topic)
        self._records = iter(open_source(market).records())

    @contextmanager
    def on(self):
        stopping = threading.Event()

        def until_stopped():
            for record in self._records:
                yield record
                if stopping.is_set():
                    return

        arrivals = plan(until_stopped(), Speed("constant", rate_hz=1500.0))
        thread = threading.Thread(target=self._publisher.publish, args=(arrivals,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(60)


def say(*words):
    done = CLI.invoke(app, ["orchestrator", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def told(run):
    return json.loads(say("explain", run, "--json"))


def submit(tmp_path, source):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"data": [source], **SPEC}))
    return json.loads(say("submit", "--spec", str(path), "--reason", "a test", "--json"))["id"]


def ended(run, seconds=480):
    return eventually(lambda: (one := told(run))["run"]["ended_s"] and one, seconds)


def compared(run, feed):
    """The run when it has ended; ticks come as soon as it is compared on them."""
    compared_at = {"shadow", "canary", "promote", "reject"}
    eventually(lambda: (one := told(run)["run"])["step"] in compared_at or one["ended_s"], 400)
    with feed.on():
        return ended(run)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_what_is_better_becomes_the_champion_and_what_is_worse_a_reason(tmp_path):
    with desk(tmp_path) as (settings, gateway):
        aliases.connect(settings.mlflow_uri)
        before = decides(gateway_settings())
        assert before is not None
        feed = Feed(settings)
        good = submit(tmp_path, TAUGHT["signal"])
        one = compared(good, feed)
        assert one["run"]["verdict"] == "succeeded", "\n".join(one["explanation"])
        served = one["run"]["outputs"]["promote"]["served"]
        eventually(lambda: str(decides(gateway_settings())) == served, 60)
        bad = submit(tmp_path, TAUGHT["contrary"])
        two = compared(bad, feed)
        assert two["run"]["verdict"] == "rejected", "\n".join(two["explanation"])
        # It was never in service, and nothing of it runs.
        assert str(decides(gateway_settings())) == served
        assert experiment_of(gateway_settings(), f"run-{bad}").state == "stopped"
        done = [a["step"] for a in one["attempts"] if a["end"] == "done"]
        assert done == list(KINDS["cycle"])
        models = one["run"]["outputs"]["train"]["models"]
        for name, version in models.items():
            assert champions.candidate(name, aliases.CHAMPION).version == version
            tags = champions.candidate(name, two["run"]["outputs"]["train"]["models"][name]).tags
            assert tags["orchestrator_verdict"] == "rejected"
        assert gateway.ended() is None

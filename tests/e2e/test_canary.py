"""A canary on a desk that decides: its challenger is loaded beside what is served, given units, watched, and stopped."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from contextlib import closing

import httpx
import pytest
from typer.testing import CliRunner

from connectors.kafka.reading import read_to_end
from exporters import profiles
from exporters.export import export_pipeline
from exporters.options import Options
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from gateway.control import topic as control_topic
from gateway.control.control import Control
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from stack.cli.main import app
from stack.processes.gateway import SeriesTopics, series_gateway
from stack.processes.own import OwnProcess
from stack.processes.settings import gateway_settings
from stack.servers.kafka import create_topics
from stack.servers.loopback import client
from stack.servers.ports import free_ports
from stack.watching.alerts import ALERTS
from stack.watching.boards import BOARDS
from stack.workflows.experiments.commanding import behind_s, bounds_of
from tests.waiting import eventually
from trading.decision.wire import decode_decision
from trading.errors import ConfigurationError
from trading.experiments.register import ExperimentHistory
from trading.history import open_source
from trading.models.copies import challenger_name
from trading.risk.limits import LimitsFile

CLI = CliRunner()
PATIENT = {"budget_ms": "86400000", "reserve_ms": "0", "shed_below_ms": "0"}
LIMITS = LimitsFile(defaults={"max_staleness_s": None, "max_drawdown": None})
SOURCE = "simulate:regimes?seed=11&ticks=12000&symbols=4"
TEXT = """\
version: 1
name: {name}
kind: canary
salt: salt-of-{name}
champion: {{model: trading_decision, version: {champion}}}
challengers:
  - {{arm: fused, model: trading_decision_fused, version: {challenger}}}
primary: {{effect: 0.5}}
block: {block}
steps: [0.25, 0.5, 1.0]
guardrails:
  - {{metric: error_rate, tolerance: 0.2, at_once: 0.9}}
  - {{metric: drawdown, tolerance: 500}}
"""

CHAMPION, CHALLENGER = "model: trading_decision, version", "model: trading_decision_fused, version"
SWAPPED = TEXT.replace(CHALLENGER, "…").replace(CHAMPION, CHALLENGER).replace("…", CHAMPION)
#: Metrics that panels and alerts of experiments read.
ASKED = {
    name
    for told in (
        *(
            query.expr
            for board in BOARDS
            for panel in board.panels
            if panel.needs == "experiment"
            for query in panel.queries
        ),
        *(one.expr for one in ALERTS if one.name.startswith("Experiment")),
    )
    for name in re.findall(r"\b(?:gateway_experiment|experiments)_\w+", told)
}


class Desk:
    """A gateway on topics of its own, and the commands of a person."""

    def __init__(self, stack, series, folder, monkeypatch, champion, challenger):
        self.stack, self.folder, self.given = stack, folder, {"champion": champion, "challenger": challenger}
        self.topics = SeriesTopics(series, f"{series}.ticks")
        create_topics(stack, self.topics.names)
        self.port = free_ports(1)[0]
        self.environment = {
            **{f"ULTRATHINK_GATEWAY_{name.upper()}": value for name, value in self.topics.settings().items()},
            "ULTRATHINK_EXPERIMENTS_FOLDER": str(folder / "experiments"),
            "ULTRATHINK_EXPERIMENTS_EXPERIMENTS_TOPIC": self.topics.topics.experiments,
            "ULTRATHINK_EXPERIMENTS_METRICS_PORT": str(self.port),
            "ULTRATHINK_EXPERIMENTS_SHARE": "1.0",
            "ULTRATHINK_EXPERIMENTS_KEEP_S": "0.2",
        }
        for name, value in {**self.environment, "ULTRATHINK_HOME": str(stack.home)}.items():
            monkeypatch.setenv(name, value)
        Control(stack.kafka_bootstrap, self.topics.control, stack.redis_url).apply(LIMITS, "a recording", "test")
        self.gateway = series_gateway(stack, self.topics, "one", model_version=str(champion), **PATIENT)
        self.watching = OwnProcess(stack, ("experiment", "run"), f"experiments-{series}", self.environment)
        self.ticks, self.sent = list(open_source(SOURCE).records()), 0

    def say(self, *words):
        done = CLI.invoke(app, ["experiment", *words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    def create(self, name, text=TEXT, **changed):
        file = self.folder / f"{name}.yaml"
        file.write_text(text.format(**{"name": name, "block": "3s", **self.given, **changed}))
        return self.say("create", str(file), "--reason", "a test")

    def report(self, name):
        return json.loads(self.say("report", name, "--json"))

    def send(self, count):
        """More ticks, until they are decided."""
        mine = self.ticks[self.sent : self.sent + count]
        self.sent += len(mine)
        publisher = TickPublisher(self.stack.kafka_bootstrap, self.topics.ticks)
        publisher.publish(plan(iter(mine), Speed("constant", rate_hz=2000.0)))
        eventually(lambda: len(self.decisions()) == self.sent)

    def decisions(self):
        return [
            decode_decision(message.value())
            for partition in range(self.stack.partitions)
            for messages in read_to_end(self.stack.kafka_bootstrap, self.topics.decisions, partition, 0)
            for message in messages
        ]

    def served(self):
        """Of the gateway's own status: experiment -> what it says of the challenger."""
        status = client().get(f"http://127.0.0.1:{self.gateway.port}/status", timeout=5.0).json()
        return {one["experiment"]: one["challengers"]["fused"] for one in status["experiments"]}

    def metric(self, name):
        """By its labels; None while nobody answers."""
        try:
            text = client().get(f"http://127.0.0.1:{self.port}/metrics", timeout=5.0).text
        except httpx.HTTPError:
            return None
        return {
            line.split("{")[1].rsplit("}", 1)[0]: float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith(name + "{")
        }

    def told(self):
        """Names of metrics of the gateway and of what watches, that have a figure."""
        found = set()
        for port in (self.port, self.gateway.port):
            text = client().get(f"http://127.0.0.1:{port}/metrics", timeout=5.0).text
            found |= {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}
        return found

    def history(self):
        found = ExperimentHistory()
        for messages in read_to_end(self.stack.kafka_bootstrap, self.topics.control, 0, 0):
            for message in messages:
                command = control_topic.read_command(message.value())
                if command.kind == "experiment":
                    found.take(message.offset(), command.value, command.by, command.reason, command.at_ns)
        return found


@pytest.fixture
def desk(stack, exported, tmp_path, monkeypatch, request):
    gpu, container = profiles.find_gpu(profiles.DEFAULT_GPU), profiles.find(profiles.DEFAULT_CONTAINER)
    repository = ModelRepository(stack.model_repository)
    options = Options(stack.mlflow_uri, container, gpu, "challenger")
    published = export_pipeline("trading_decision", options, repository, lambda _: None, fuse=True)
    (fused,) = (p.version for p in published if p.name == "trading_decision_fused")
    champion = next(one.version for one in exported if one.name == "trading_decision")
    series = "canary" if "creation" in request.node.name else "gone"
    made = Desk(stack, series, tmp_path, monkeypatch, champion, fused)
    made.gateway.start()
    try:
        made.gateway.wait_for_partitions()
        made.watching.start()
        yield made
    finally:
        made.watching.kill()
        made.gateway.kill()


def watched(name):
    """What the metric says while both the desk's own guardrails and the shadow's are looked at."""
    return {f'experiment="{name}",where="{where}"': 1.0 for where in ("desk", "shadow")}


def assert_asked_in_time(decisions):
    """The challenger was there throughout; a busy machine may make it late for some rows."""
    fell = Counter(d.fallback for d in decisions)
    assert set(fell) <= {"", "timeout"}
    assert fell["timeout"] < 0.1 * fell[""]


def test_a_canary_from_its_creation_to_its_stop(desk):
    for wrong, told in (
        ({"challenger": 98}, "fused: trading_decision_fused/98 is neither served nor to be loaded"),
        ({"block": "100ms"}, "a block of 100ms is shorter than the"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            desk.create("wrong", **wrong)
    # What decides is the champion, and nothing else.
    with pytest.raises(
        ConfigurationError, match=rf"the desk is decided by trading_decision/{desk.given['champion']}, "
    ):
        desk.create("swapped", text=SWAPPED, champion=desk.given["challenger"], challenger=desk.given["champion"])
    desk.create("fresh")
    with pytest.raises(ConfigurationError, match="fresh is an experiment already"):
        desk.create("fresh")
    desk.say("start", "fresh", "--reason", "a test")
    eventually(lambda: desk.metric("experiments_watched") == watched("fresh"))
    desk.send(3000)
    assert {d.experiment for d in desk.decisions()} == {""}
    # A share, from a block on that lies ahead of every partition.
    assert "50% of its units are the challengers' from block" in desk.say(
        "ramp", "fresh", "--to", "0.5", "--reason", "no harm"
    )
    eventually(lambda: desk.served() == {"fresh": "closed"})
    desk.send(3000)
    treated = [d for d in desk.decisions() if d.experiment]
    assert len(treated) > 500
    assert_asked_in_time(treated)
    arms = {(d.assigned, d.variant, d.model_name) for d in treated if not d.fallback}
    assert arms == {
        ("champion", "champion", "trading_decision"), ("fused", "fused", "trading_decision_fused"),
    }  # fmt: skip
    # What boards and alerts ask of an experiment is told.
    eventually(lambda: desk.told() >= {name for name in ASKED if name != "experiments_stops_total"})
    # Whoever reads the log finds the same arms.
    history = desk.history()
    for d in treated:
        assert history.assigned(d.experiment, d.symbol, d.event_time_ns) == d.assigned
    # Killed, who watches goes on, and meanwhile nobody misses it.
    desk.watching.kill()
    desk.send(2000)
    assert desk.report("fresh")["behind_s"] > 0.0
    desk.watching.start()
    eventually(lambda: desk.metric("experiments_watched") == watched("fresh"))
    desk.send(2000)
    eventually(lambda: (desk.metric("experiments_blocks") or {}).get('experiment="fresh",where="desk"', 0.0) > 3.0)
    eventually(lambda: desk.report("fresh")["behind_s"] == 0.0)
    # The mark that ends the last transaction is nothing to be taken; the decision before it is.
    ends = {p: end for p, (_, end) in bounds_of(gateway_settings()).items() if end}
    assert behind_s(gateway_settings(), {p: end - 1 for p, end in ends.items()}) == 0.0
    assert behind_s(gateway_settings(), {p: end - 20 for p, end in ends.items()}) > 0.0
    assert_asked_in_time(desk.decisions())
    # A stop counts at once.
    desk.say("stop", "fresh", "--reason", "seen enough")
    eventually(lambda: desk.served() == {}, 5.0)
    desk.send(2000)
    assert {d.experiment for d in sorted(desk.decisions(), key=lambda d: d.decided_at_ns)[-2000:]} == {""}
    # Of what goes on no more nothing is behind, whatever the desk decides; of places that are not there nobody knows.
    assert desk.report("fresh")["behind_s"] == 0.0
    assert behind_s(gateway_settings(), {0: 10**9}) is None
    told = json.loads(desk.say("status", "fresh", "--json"))
    assert [one["act"] for one in told["said"]] == ["create", "start", "ramp", "stop"]
    eventually(lambda: desk.metric("experiments_watched") == {})


def test_a_challenger_that_is_taken_away_is_stopped_by_its_guardrail(desk):
    desk.create("gone")
    desk.say("start", "gone", "--reason", "a test")
    eventually(lambda: desk.metric("experiments_watched") == watched("gone"))
    desk.say("ramp", "gone", "--to", "1.0", "--reason", "a test")
    # Nobody keeps it loaded, and whoever finds it so may unload it.
    eventually(lambda: desk.served() == {"gone": "closed"})
    desk.watching.kill()
    triton_unload(desk)
    eventually(lambda: desk.served() != {"gone": "closed"}, 20.0)
    desk.send(2000)
    found = [d for d in desk.decisions() if d.experiment]
    assert {d.fallback for d in found[-500:]} <= {"not_served", "unavailable"}
    assert {d.variant for d in found[-500:]} == {"champion"}
    # At a share of 1 nothing is compared; a half is.
    desk.say("ramp", "gone", "--to", "0.5", "--reason", "a test")
    desk.send(4000)
    desk.watching.start()
    began_s = time.monotonic()
    eventually(lambda: json.loads(desk.say("status", "gone", "--json"))["state"] == "stopped")
    told = json.loads(desk.say("status", "gone", "--json"))
    assert "does harm on the desk" in told["said"][-1]["reason"]
    assert told["said"][-1]["by"] == "experiments"
    assert time.monotonic() - began_s < 60.0


def triton_unload(desk):
    with closing(TritonServer(desk.stack.triton_grpc)) as triton:
        triton.unload(challenger_name("trading_decision_fused", desk.given["challenger"], "gone"))

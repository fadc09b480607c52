"""A desk that was put aside and restored on an empty home decides as it would have: what lay undecided too."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from exporters.errors import Busy
from exporters.repository.repository import ModelRepository
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from stack.chaos.evidence import read_trail
from stack.cli.main import app
from stack.servers.settings import ServerPorts, StackSettings, load
from stack.supervision.lifecycle import delete_data, down, up
from stack.supervision.status import READY, read_status
from tests.stacks import running_stack
from tests.waiting import eventually
from trading.history import open_source

pytestmark = pytest.mark.slow
CLI = CliRunner()
TICKS = 400
HOUR_MS = "3600000"


def ran(*words):
    done = CLI.invoke(app, list(words))
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def publish(settings, seed):
    source = open_source(f"simulate:regimes?seed={seed}&ticks={TICKS}&symbols=3")
    return TickPublisher(settings.kafka_bootstrap, "market.ticks").publish(
        plan(source.records(), Speed("constant", rate_hz=500.0))
    )


def published(settings):
    return read_trail(settings.kafka_bootstrap, "trading.decisions", "market.ticks.dlq")


def is_ready(home, name):
    status = read_status(home)
    return status is not None and any(s.name == name and s.state == READY for s in status.services)


def test_a_restored_desk_decides_as_the_one_that_was_put_aside(stack, exported, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("backups")
    home, again = folder / "desk", folder / "again"
    settings = StackSettings(
        home=home, ports=ServerPorts.automatic(), model_repository=folder / "models",
        # Whenever a tick is decided, and however late: the same.
        desk={
            "ULTRATHINK_GATEWAY_BUDGET_MS": HOUR_MS, "ULTRATHINK_GATEWAY_SHED_BELOW_MS": "0",
            "ULTRATHINK_GATEWAY_EXECUTION": "assumed",
        },
    )  # fmt: skip
    shutil.copytree(stack.model_repository, settings.model_repository)
    with running_stack(settings):
        eventually(lambda: is_ready(home, "gateway"), 60)
        ran("gateway", "resume", "--reason", "a test")
        publish(settings, 5)
        eventually(lambda: len(published(settings).evidence) == TICKS, 60)
        # Ticks that nobody has decided are a part of what is put aside.
        ran("stack", "up", "--profile", "servers")
        publish(settings, 6)
        refused = CLI.invoke(app, ["stack", "backup", str(folder / "one")])
        assert refused.exit_code != 0
        assert "--stop" in str(refused.exception)
        # Whatever stands in its way, a desk that was ended for it is brought back.
        repository = ModelRepository(settings.model_repository)
        with repository.lock("trading_decision"):
            refused = CLI.invoke(app, ["stack", "backup", str(folder / "one"), "--stop"])
        assert isinstance(refused.exception, Busy)
        assert read_status(home).settled
        assert not (folder / "one").exists()
        told = json.loads(ran("stack", "backup", str(folder / "one"), "--stop", "--json"))
        assert min(told["parts"][part] for part in ("kafka", "postgres", "models", "trail", "secrets")) > 0
        # It goes on as it was, and decides them.
        assert read_status(home).settled
        ran("stack", "up", "--profile", "desk")
        eventually(lambda: len(published(settings).evidence) == 2 * TICKS, 60)
        wanted, state = published(settings), json.loads(ran("gateway", "state", "--json"))
        assert not wanted.broken
        down(home)
    shutil.rmtree(settings.model_repository)
    delete_data(home)
    assert not home.exists()

    monkeypatch.setenv("ULTRATHINK_HOME", str(again))
    ran("stack", "restore", str(folder / "one"))
    restored = load(again)
    with running_stack(restored.model_copy(update={"profile": "desk"})):
        eventually(lambda: is_ready(again, "gateway"), 60)
        eventually(lambda: len(published(restored).evidence) == 2 * TICKS, 60)
        found = published(restored)
        assert found.evidence == wanted.evidence
        assert [found.repeated, found.disordered, found.broken, found.letters] == [[], [], [], {}]
        assert json.loads(ran("gateway", "state", "--json"))["state"] == state["state"]
        verified = CLI.invoke(app, ["forensics", "verify", "--json"])
        assert verified.exit_code == 0, verified.output
        assert up(restored.model_copy(update={"profile": "desk"}), lambda _: None).settled

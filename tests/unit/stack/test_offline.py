"""Trainers, exporters, stack and load test: what needs no server."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from loadtest.open_loop.watcher import completeness, latency
from stack.demo.run import begin_anew
from stack.servers.identity import Identity, describe_exit, end
from stack.servers.lifecycle import check_brokers, check_ports, down
from stack.servers.log_files import tail
from stack.servers.ports import free_ports, holder, is_free
from stack.servers.settings import ServerPorts, StackSettings
from tests.paths import ROOT
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.files import write_atomically


def test_missing_and_repeated_decisions_are_counted():
    sent = {(0, 1): 1000, (0, 2): 1000, (1, 1): 1000}
    seen = [b'{"decision_id":"market.ticks-0-1"}'] * 2 + [
        b'{"decision_id":"market.ticks-1-1"}',
        b'{"decision_id":"market.ticks-9-9"}',
    ]
    found = completeness(sent, seen)
    assert (found.ticks, found.decisions, found.missing, found.repeated) == (3, 3, 1, 1)
    measured, histogram = latency(sent, seen, [2_001_000, 9_001_000, 5_001_000, 1])
    assert histogram.get_total_count() == 2
    assert measured.max == pytest.approx(5.0, rel=0.01)


def test_the_stacks_ports_are_checked_before_anything_starts(tmp_path):
    import socket

    settings = StackSettings(home=tmp_path, ports=ServerPorts.automatic(), model_repository=tmp_path)
    check_ports(settings)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.ports.redis))
        taken.listen()
        assert not is_free(settings.ports.redis)
        assert str(os.getpid()) in holder(settings.ports.redis)
        with pytest.raises(ConfigurationError, match=f"port {settings.ports.redis}, which redis needs"):
            check_ports(settings)


def test_free_ports_are_all_different():
    assert len(set(free_ports(20))) == 20


def test_only_the_process_that_was_meant_is_ended():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    identity = Identity.of(child.pid)
    assert not end(Identity(child.pid, identity.started_at - 100))
    assert child.poll() is None
    assert end(identity, timeout_s=5)
    assert child.wait() is not None
    assert not end(identity)


def test_exit_137_is_called_what_it_is():
    assert "out of memory" in describe_exit(-9)
    assert "memory" in describe_exit(137)
    assert describe_exit(1) == "exit 1"


def test_files_are_replaced_whole_and_secrets_are_private(tmp_path):
    path = tmp_path / "x"
    write_atomically(path, "one", mode=0o600)
    write_atomically(path, "two", mode=0o600)
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o077 == 0
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert tail(tmp_path / "absent") == []


def test_down_where_nothing_runs_is_harmless(tmp_path):
    assert down(tmp_path / "home") is False


def test_passwords_are_asked_for_only_after_up(tmp_path):
    with pytest.raises(ConfigurationError, match="ultrathink stack up"):
        _ = StackSettings(home=tmp_path).redis_url


def test_a_triton_or_kafka_that_is_down_is_a_sentence():
    from exporters.release.triton_client import TritonServer
    from loadtest.open_loop.publisher import TickPublisher

    (port,) = free_ports(1)
    with pytest.raises(ServiceUnavailable, match="stack up"):
        TritonServer(f"127.0.0.1:{port}")
    with pytest.raises(ServiceUnavailable, match="stack up"):
        TickPublisher(f"127.0.0.1:{port}", "market.ticks")


@pytest.mark.parametrize(
    "command",
    [
        "",
        "stack",
        "stack up",
        "data build",
        "data inspect",
        "train all",
        "train promote",
        "train search",
        "train queue",
        "train report",
        "gateway run",
        "ticks publish",
        "demo",
        "export",
        "export model",
        "export pipeline",
        "export verify",
        "export release",
        "export rollback",
        "export recover",
        "export history",
        "export list",
        "export prune",
        "export diff",
        "export doctor",
        "export tune",
        "export configs",
        "loadtest",
        "loadtest kafka",
        "loadtest triton",
        "loadtest all",
        "loadtest capacity",
        "loadtest compare",
        "loadtest soak",
        "loadtest report",
        "loadtest targets",
    ],
)
def test_every_command_has_help(command):
    done = run_cli(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
    if " " in command or command == "demo":
        assert "Example: ultrathink" in done.stdout
    if command.startswith("export "):
        assert {"--mlflow-uri", "--triton-url", "--repository", "--json"} <= set(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ticks", "publish", "nonsense"], "expected one of"),
        (["demo", "--data", "binance:/nowhere.gz"], "/nowhere.gz is no file"),
        (["stack", "up", "--brokers", "2"], "--brokers 2"),
        (["stack", "logs", "nobody"], "no log of"),
        (["nosuch"], "No such command"),
        (["export", "model", "m", "--format", "tflite"], "--format 'tflite': expected onnx, torchscript, auto"),
        (["export", "model", "m", "--precision", "int8"], "--precision 'int8'"),
        (["export", "model", "m", "--target", "24.01-py3"], "unknown target '24.01-py3'"),
        (["export", "doctor", "--gpu", "voodoo2"], "unknown GPU 'voodoo2': expected one of rtx5070"),
        (["export", "pipeline", "nosuch"], "is no pipeline: expected trading_decision"),
        (["export", "verify", "nosuch", "--offline", "--repository", "/nowhere"], "has no version of 'nosuch'"),
        (["export", "prune", "nosuch", "--repository", "/nowhere"], "has no version of 'nosuch'"),
        (["export", "diff", "nosuch", "1", "2", "--repository", "/nowhere"], "nosuch has no version 1"),
        (["stack", "up", "--bogus"], "No such option"),
        (["stack", "up", "--brokers", "9"], "Invalid value"),
        (["demo", "--speed", "9y"], "expected real"),
        (["demo", "--limit", "10"], "at least"),
        (["ticks", "publish", "csv:[x]/y.csv"], "[x]/y.csv is no file"),
        (["data", "build", "nonsense", "--out", "x"], "expected one of"),
        (["data", "build", "simulate:calm", "--out", "x", "--horizon", "soon"], "'soon' is no span of time"),
        (["data", "build", "simulate:calm", "--out", "x", "--bars", "tick"], "bars 'tick'"),
        (["data", "inspect", "/nowhere"], "/nowhere holds no dataset"),
        (["train", "all", "--teacher", "oracle"], "teacher 'oracle': expected one of auto, hmm, mixture"),
        (["train", "all", "--fee-bps", "-1"], "fee_bps -1.0 is no cost"),
        (["train", "all", "--groups", "3", "--tested", "3"], "3 of 3 groups"),
        (["train", "all", "--memory", "lots"], "memory 'lots'"),
        (["train", "all", "--memory", "10M"], "below the"),
        (["train", "all", "--limits", "/nowhere.yaml"], "/nowhere.yaml"),
        (["train", "queue", "/nowhere.yaml"], "/nowhere.yaml does not exist"),
    ],
)
def test_a_users_mistake_is_a_sentence_and_exit_code_2(arguments, says, tmp_path):
    done = run_cli("--home", str(tmp_path), *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def run_cli(*arguments):
    from pathlib import Path

    program = Path(sys.executable).parent / "ultrathink"
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_a_wrong_environment_variable_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_PORTS__KAFKA", "9192")
    done = run_cli("--home", str(tmp_path), "stack", "status")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_purge_deletes_what_a_stack_wrote_and_nothing_else(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "logs").mkdir()
    down(tmp_path, purge=True)
    assert (tmp_path / "logs").is_dir()
    (tmp_path / "stack.json").write_text("{}")
    down(tmp_path, purge=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_demo_leaves_another_stacks_folder_alone(tmp_path):
    (tmp_path / "stack.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="no demo"):
        begin_anew(tmp_path)


def test_data_of_another_number_of_brokers_is_named(tmp_path):
    (tmp_path / "kafka" / "1").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="1 broker"):
        check_brokers(StackSettings(home=tmp_path, brokers=3))


def told_commands():
    import re

    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for line in re.findall(r"^\$ (ultrathink .*)$|`(ultrathink [a-z][^`]*)`", page.read_text(), re.MULTILINE):
            yield page.name, (line[0] or line[1]).replace("\\|", "|")


@pytest.mark.parametrize(("page", "line"), sorted(set(told_commands())))
def test_the_documents_name_only_commands_and_options_that_exist(page, line):
    import typer

    from stack.cli.main import app

    command, words = typer.main.get_command(app), line.split()[1:]
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    assert not (words and hasattr(command, "commands") and words[0].isalpha() and words[0].islower()), line
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    asked = {w.strip("[]").split("=")[0] for w in words if w.strip("[").startswith("--")}
    assert asked <= known, (page, line)

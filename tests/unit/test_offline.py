"""Trainers, exporters, stack and load test: what needs no server."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from gateway.domain.errors import ConfigurationError, ServiceUnavailable, SourceError
from gateway.history import open_source
from loadtest.gates import misses
from loadtest.schedule import Speed, plan
from loadtest.watcher import completeness, latency
from stack.demo import begin_anew
from stack.files import tail, write_atomically
from stack.lifecycle import check_brokers, check_ports, down
from stack.ports import free_ports, holder, is_free
from stack.processes import Identity, describe_exit, end
from stack.settings import Ports, StackSettings
from trainers.dataset import build
from trainers.evaluate import NetPath, net_path, summarise
from trainers.labels import make_labels, step_ahead
from trainers.orchestrator import TrainSettings, train_all
from trainers.regime_teacher import forward_filter
from trainers.splits import walk_forward


@pytest.fixture(scope="module")
def data():
    return build(open_source("simulate:regimes?seed=2&ticks=9000&symbols=3"), lambda n: None)


def test_labels_look_ahead_within_one_symbol_only(data):
    ahead, valid = step_ahead(data.symbols, 10)
    assert (data.symbols[ahead[valid]] == data.symbols[valid]).all()
    assert (data.time_ns[ahead[valid]] >= data.time_ns[valid]).all()
    assert (~valid).sum() == 30
    row = np.flatnonzero(valid)[100]
    between = (data.symbols[row : ahead[row] + 1] == data.symbols[row]).sum()
    assert between == 11


def test_no_training_label_reaches_into_the_test_segment(data):
    labels = make_labels(data, 10)
    splits = list(walk_forward(data.time_ns, labels.end_ns, 3, embargo_ns=1_000_000))
    assert len(splits) == 3
    for split in splits:
        assert len(split.train) > 1000
        assert len(split.test) > 500
        assert labels.end_ns[split.train].max() < split.test_start_ns - 1_000_000
        assert data.time_ns[split.test].min() >= split.test_start_ns
    tests = np.concatenate([s.test for s in splits])
    assert len(tests) == len(set(tests.tolist()))


def test_the_filter_uses_the_past_only():
    density = np.log(np.random.default_rng(0).dirichlet(np.ones(3), 50))
    transitions = np.full((3, 3), 0.05) + np.eye(3) * 0.85
    symbols = np.zeros(50, np.int64)
    whole = forward_filter(density, transitions, symbols)
    np.testing.assert_array_equal(whole[:20], forward_filter(density[:20], transitions, symbols[:20]))
    np.testing.assert_allclose(whole.sum(axis=1), 1.0)


def test_the_data_hash_names_the_ticks():
    one, again, other = (
        build(open_source(f"simulate:calm?seed={s}&ticks=6000&symbols=1"), lambda n: None).data_hash
        for s in (1, 1, 2)
    )
    assert one == again != other


def test_too_little_data_is_refused():
    with pytest.raises(SourceError, match="at least 5000"):
        build(open_source("simulate:calm?ticks=500"), lambda n: None)


@pytest.mark.parametrize(
    ("text", "speed"), [("real", Speed(1.0)), ("8x", Speed(8.0)), ("50/s", Speed(rate_hz=50.0)), ("max", Speed())]
)
def test_speeds(text, speed):
    assert Speed.parse(text) == speed


@pytest.mark.parametrize("text", ["fast", "0x", "-1x", "x", "10"])
def test_a_wrong_speed_says_what_was_expected(text):
    with pytest.raises(ConfigurationError, match="expected real"):
        Speed.parse(text)


def test_a_schedule_keeps_the_recorded_gaps_and_never_steps_back():
    records = list(open_source("simulate:calm?ticks=100").records())
    planned = list(plan(iter(records), Speed(2.0)))
    span = (records[-1].arrival_ns - records[0].arrival_ns) / 2
    assert planned[-1].after_ns == pytest.approx(span, abs=2)
    assert all(a.after_ns <= b.after_ns for a, b in zip(planned, planned[1:], strict=False))
    steady = list(plan(iter(records), Speed(rate_hz=1000.0)))
    assert steady[50].after_ns == 50_000_000


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


def test_gates_miss_on_latency_errors_and_too_few_samples():
    assert misses(1000, 0, 10.0) == []
    assert len(misses(50, 10, 80.0)) == 3


def test_the_stacks_ports_are_checked_before_anything_starts(tmp_path):
    import socket

    settings = StackSettings(home=tmp_path, ports=Ports.automatic(), model_repository=tmp_path)
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
    from exporters.serving import TritonServer
    from loadtest.publisher import TickPublisher

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
        "train all",
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


def test_costs_and_turnover_are_counted_a_symbol(data):
    labels = make_labels(data, 10)
    rows = np.flatnonzero(labels.valid)
    path = net_path(np.ones(len(rows)), data.symbols, labels, rows)
    # A constant position is paid for once a symbol.
    assert path.changes.sum() == 3.0
    gains = labels.next_log_return[rows] * 1e4
    assert path.gains.sum() == pytest.approx(gains.sum() - (path.changes * labels.half_spread[rows]).sum() * 1e4)


def test_gains_of_one_moment_are_one_observation():
    gains = np.random.default_rng(0).normal(0.1, 1.0, 400)
    once = summarise(NetPath(gains, np.zeros(400)), np.arange(400))
    copied = summarise(NetPath(np.repeat(gains, 20), np.zeros(8000)), np.repeat(np.arange(400), 20))
    assert copied.t_statistic == pytest.approx(once.t_statistic)


def test_a_horizon_beyond_the_data_is_refused(data):
    with pytest.raises(ConfigurationError, match="too long"):
        train_all(data, TrainSettings(horizon=3000), lambda text: None)
    for step in (5, 12, 30):
        ahead, valid = step_ahead(np.zeros(10, np.int64), step)
        assert (ahead[valid] == np.arange(10)[valid] + step).all()


def told_commands():
    import re
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    for page in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
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

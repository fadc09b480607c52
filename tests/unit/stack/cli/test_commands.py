"""Every command has help, and a user's mistake is a sentence."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console

from exporters.release.triton_client import TritonServer
from loadtest.open_loop.publisher import TickPublisher
from stack.cli.commands import COMMANDS, load
from stack.cli.main import app, run
from stack.cli.output import coloured, table
from stack.servers.ports import free_ports
from stack.watching.alerts import ALERTS
from tests.paths import ROOT
from trading.errors import ServiceUnavailable


def test_a_triton_or_kafka_that_is_down_is_a_sentence():
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
        (["export", "model", "m", "--precision", "int4"], "--precision 'int4'"),
        (["export", "model", "m", "--calibrate", "x.npy"], "--calibrate is for --precision int8"),
        (["export", "model", "m", "--target", "24.01-py3"], "unknown target '24.01-py3'"),
        (["export", "doctor", "--gpu", "voodoo2"], "unknown GPU 'voodoo2': expected one of rtx3050"),
        (["export", "pipeline", "nosuch"], "is no pipeline: expected trading_decision"),
        (["export", "verify", "nosuch", "--offline", "--repository", "/nowhere"], "has no version of 'nosuch'"),
        (["export", "prune", "nosuch", "--repository", "/nowhere"], "has no version of 'nosuch'"),
        (["export", "diff", "nosuch", "1", "2", "--repository", "/nowhere"], "nosuch has no version 1"),
        (["export", "release", "m", "1", "--triton-url", "http://h:8000"], "names 'http://h:8000': give host:port"),
        (["export", "tune", "m", "--triton-url", "a:1,b:2"], "names 2 Tritons, and one is asked"),
        (["gpu", "probe", "--triton-url", "a:1,b:2"], "names 2 Tritons, and one is asked"),
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
def test_a_users_mistake_is_a_sentence_and_exit_code_2(arguments, says, tmp_path, monkeypatch, capsys):
    code = run_here(monkeypatch, "--home", str(tmp_path), *arguments)
    told = capsys.readouterr().err
    assert code == 2
    assert says in told
    assert "Traceback" not in told


def test_a_process_says_the_same(tmp_path):
    done = run_cli("--home", str(tmp_path), "stack", "logs", "nobody")
    assert done.returncode == 2
    assert "no log of" in done.stderr


def run_here(monkeypatch, *arguments):
    """The program's entry in this process, which need not import everything anew; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["ultrathink", *arguments])
    monkeypatch.setattr(os, "environ", os.environ.copy())
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        run()
    except SystemExit as ended:
        return ended.code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def run_cli(*arguments):
    program = Path(sys.executable).parent / "ultrathink"
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_a_wrong_environment_variable_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_PORTS__KAFKA", "the usual one")
    done = run_cli("--home", str(tmp_path), "stack", "status")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def told_commands():
    for page in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "docs/runbook").iterdir()),
    ):
        for line in re.findall(r"^\$ (ultrathink .*)$|`(ultrathink [a-z][^`]*)`", page.read_text(), re.MULTILINE):
            yield page.name, (line[0] or line[1]).replace("\\|", "|")
    for one in ALERTS:
        for line in re.findall(r"`(ultrathink [a-z][^`]*)`", one.summary):
            yield one.name, line


def unknown_in(line):
    """What a line names and there is not: a command, or options."""
    words = re.sub(r" --home \S+", "", line, count=1).split()[1:]
    command = load(words.pop(0)) if words and words[0] in COMMANDS else typer.main.get_command(app)
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    if words and hasattr(command, "commands") and re.fullmatch(r"[a-z]+(-[a-z]+)*", words[0]):
        return {words[0]}
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    return {w.strip("[]").split("=")[0] for w in words if w.strip("[").startswith("--")} - known


@pytest.mark.parametrize(("page", "line"), sorted(set(told_commands())))
def test_the_documents_name_only_commands_and_options_that_exist(page, line):
    assert not unknown_in(line), (page, line)


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("ultrathink stack nonsense", {"nonsense"}),
        ("ultrathink stack non-sense", {"non-sense"}),
        ("ultrathink --home X stack nonsense", {"nonsense"}),
        ("ultrathink --home X stack up --brokers 3", set()),
        ("ultrathink export pipelin X --dry-run", {"pipelin"}),
        ("ultrathink nothing", {"nothing"}),
        ("ultrathink gateway dlq lst", {"lst"}),
        ("ultrathink stack up --broker 3", {"--broker"}),
        ("ultrathink demo --spee 2000/s", {"--spee"}),
        ("ultrathink stack up --brokers 3", set()),
    ],
)
def test_what_does_not_exist_is_found(line, unknown):
    assert unknown_in(line) == unknown


def test_brackets_in_what_people_call_things_are_no_markup(capsys):
    """Of a path, of a reason, of a user: what was published must not end in a traceback about a tag."""
    shown = table("b[/x]", ["what"], [["c[old]/m1.onnx"], ["[/x]"], [coloured("green", "kept [as it is]")]])
    Console(file=sys.stdout, width=80).print(shown)
    said = capsys.readouterr().out
    for words in ("b[/x]", "c[old]/m1.onnx", "[/x]", "kept [as it is]"):
        assert words in said
    assert "green" not in said

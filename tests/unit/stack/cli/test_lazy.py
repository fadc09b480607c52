"""A command imports what it needs and no more, and help says of each what it says of itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway.settings import GatewaySettings
from stack.cli.commands import COMMANDS, load
from trading.decision.policy import REBALANCE_BAND


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_of_a_command_what_it_says_of_itself(name):
    command = load(name)
    assert command.name == name
    assert " ".join(command.help.split("\n\n")[0].split()) == COMMANDS[name]


def imported_by(code: str) -> set[str]:
    """The outermost names of the modules that a new process has after running some code."""
    told = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{told}"], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("code", "spared"),
    [
        ("from stack.cli.main import app", {"numpy", "numba", "httpx", "grpc", "confluent_kafka", "pydantic"}),
        ("from stack.processes.settings import gateway_settings; gateway_settings()", {"numba", "grpc"}),
        ("from exporters.release.versions import rows", {"numba", "onnx", "torch", "mlflow"}),
    ],
)
def test_what_a_command_does_not_need_it_does_not_import(code, spared):
    assert not imported_by(code) & spared


def test_the_setting_and_the_policy_have_one_band():
    assert GatewaySettings().rebalance_band == REBALANCE_BAND

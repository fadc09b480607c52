"""A command imports what it needs and no more, and help says of each what it says of itself."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

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
    return set(done.stdout.splitlines()[-1].split())


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


def test_the_rules_of_one_order_are_left_to_python(tmp_path):
    """What numba needs to load what it has compiled takes longer than the whole command may."""
    code = (
        "import sys; from stack.cli.main import run; from contextlib import suppress\n"
        "sys.argv = ['ultrathink', 'risk', 'check', '--price', '10', 'AAPL', '100']\n"
        "with suppress(SystemExit): run()\n"
        "from trading.compiled import ENTRIES; print('\\n', ENTRIES)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60,
        env={**os.environ, "ULTRATHINK_HOME": str(tmp_path)},
    )  # fmt: skip
    assert "valid_values" in done.stdout
    assert done.stdout.splitlines()[-1].strip() == "[]"


def test_an_onnx_file_is_exported_without_torch_and_mlflow(tmp_path):
    """Each takes longer to import than such a file takes to convert and to prove."""
    weights = numpy_helper.from_array(np.eye(4, 3, dtype=np.float32), "w")
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n])] for name, n in (("x", 4), ("y", 3))
    )
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", inputs, outputs, [weights])
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    given = ["export", "model", str(path), "--dry-run", "--json", "--repository", str(tmp_path / "models")]
    imported = imported_by(f"from stack.cli.main import app; app({given!r}, standalone_mode=False)")
    assert {"onnx", "onnxruntime"} <= imported
    assert not imported & {"torch", "mlflow", "sklearn", "pandas"}


def test_the_setting_and_the_policy_have_one_band():
    assert GatewaySettings().rebalance_band == REBALANCE_BAND

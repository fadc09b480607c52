"""What our Triton backends tell the server of answers that failed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from types import ModuleType

import pytest

from stack.servers.triton import BACKENDS, environment, install_backends

#: Prints by how much it yields more than before; the server's own module is nobody's need here.
YIELDS = """
import json, os, sys, types
sys.modules["triton_python_backend_utils"] = types.ModuleType("utils")
sys.path.insert(0, sys.argv[1])
import ultrathink_answers
before = os.nice(0)
ultrathink_answers.yield_to_others(json.loads(sys.argv[2]))
print(os.nice(0) - before)
"""


class TritonModelException(Exception):
    """As the server's own module has it."""


class Told:
    """An error, as an answer holds it."""

    def __init__(self, said):
        self._said = said

    def message(self):
        return self._said


class Answer:
    """A response of the server's module; `said` is why it failed."""

    def __init__(self, said=""):
        self._said = said

    def has_error(self):
        return bool(self._said)

    def error(self):
        return Told(self._said)


@pytest.fixture
def whole(monkeypatch):
    """Ours, beside a module as the server brings it."""
    server = ModuleType("triton_python_backend_utils")
    server.TritonModelException = TritonModelException
    monkeypatch.setitem(sys.modules, server.__name__, server)
    spec = importlib.util.spec_from_file_location("ultrathink_answers", BACKENDS / "ultrathink_answers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.whole


@pytest.mark.parametrize(
    ("config", "nice"),
    [
        ({"optimization": {"priority": "PRIORITY_MIN", "graph": {"level": 1}}}, 10),
        ({"optimization": {"priority": "PRIORITY_DEFAULT"}}, 0),
        ({}, 0),
    ],
)
def test_a_model_that_nobody_waits_for_yields(config, nice):
    # Nobody can take it back: in a process of its own.
    words = [sys.executable, "-c", YIELDS, str(BACKENDS), json.dumps(config)]
    assert int(subprocess.run(words, capture_output=True, check=True).stdout) == nice


@pytest.mark.parametrize("failed", [["odd"], ["odd", "odd"]])
def test_a_call_of_which_nothing_is_answered_fails(whole, failed):
    with pytest.raises(TritonModelException, match="^odd$"):
        whole([Answer(said) for said in failed])


def test_each_reason_is_told_once(whole):
    with pytest.raises(TritonModelException, match="^odd; even$"):
        whole([Answer("odd"), Answer("even"), Answer("odd")])


def test_reasons_fit_into_what_a_caller_takes(whole):
    with pytest.raises(TritonModelException) as told:
        whole([Answer(f"{number} " + "x" * 10_000) for number in range(100)])
    assert str(told.value).endswith("; and 96 more")
    assert len(str(told.value)) < 1400


def test_it_lies_beside_each_backend_under_a_name_of_its_own(tmp_path):
    install_backends(tmp_path)
    for backend in ("onnxruntime", "pytorch"):
        assert (tmp_path / backend / "ultrathink_answers.py").is_file()
        assert (
            "from ultrathink_answers import whole, yield_to_others" in (tmp_path / backend / "model.py").read_text()
        )
    assert environment(1)["PYTHONPATH"] == ""


@pytest.mark.parametrize("said", [[], [""], ["", "odd"], ["odd", ""]])
def test_who_can_be_answered_is_whoever_fails_beside_him(whole, said):
    answers = [Answer(one) for one in said]
    assert whole(answers) is answers

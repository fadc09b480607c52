"""Every row that is served runs under the container's own ONNX Runtime, and answers there as it does under ours."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from exporters.profiles import find
from exporters.sources.running import run_file
from exporters.sources.sandbox import IsolatedModel
from exporters.target import ask_there
from tests.conformance import judge
from tests.conformance.cases import Refused
from tests.conformance.hostile import rows_for
from tests.conformance.table import CASES

pytestmark = pytest.mark.slow
CONTAINER = find("25.03-py3")
LOOP = f"""
import json, runpy, sys
there = runpy.run_path({ask_there.__file__!r})
for line in sys.stdin:
    try:
        there["main"](*json.loads(line))
        print("", flush=True)
    except Exception as error:
        print(repr(error)[:500], flush=True)
"""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """A process with the container's ONNX Runtime, that reads arguments of `ask_there` and says what went wrong."""
    folder = tmp_path_factory.mktemp("container")
    python = folder / "env/bin/python"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(folder / "env")], check=True)
    wanted = [f"onnxruntime=={CONTAINER.onnxruntime}", "numpy"]
    subprocess.run([*uv, "pip", "install", "-q", "--python", str(python), *wanted], check=True)
    process = subprocess.Popen(
        [python, "-I", "-c", LOOP],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield process
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", list(dict.fromkeys(c.library for c in CASES)))
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.long)])
def test_answers_are_the_same_there(library, every, runtime, tmp_path):
    wrong = []
    served = [c for c in CASES if c.library == library and not isinstance(c.ends, Refused)][::every]
    assert served
    with IsolatedModel(tmp_path) as process:
        for number, case in enumerate(c for c in served if c.arguments.get("format") != "torchscript"):
            folder = tmp_path / str(number)
            folder.mkdir()
            model = case.make()
            path, contract = judge.exported(case, model, folder, process)
            known = rows_for(model.rows, path)["known"]
            rows = judge.as_served([a[:64] for a in known], contract)
            np.savez(folder / "rows.npz", *rows)
            names = {"inputs": [t.name for t in contract.inputs], "outputs": [t.name for t in contract.outputs]}
            asked = [str(path), str(folder / "rows.npz"), str(folder / "told.npz"), json.dumps(names)]
            runtime.stdin.write(json.dumps(asked) + "\n")
            runtime.stdin.flush()
            if said := runtime.stdout.readline().strip():
                wrong.append((case.name, said))
                continue
            with np.load(folder / "told.npz") as told:
                there = [told[f"arr_{k}"] for k in range(len(told.files))]
            for here, elsewhere in zip(run_file(contract, path)(rows), there, strict=True):
                if not np.allclose(here, elsewhere, rtol=1e-4, atol=1e-6, equal_nan=True):
                    wrong.append((case.name, "another answer"))
    assert not wrong

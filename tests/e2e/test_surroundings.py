"""A folder with a space, parentheses and letters beyond ASCII; modules of ours in it; a proxy that answers nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.exporters.models import write_times

pytestmark = pytest.mark.slow
COMMAND = str(Path(sys.executable).parent / "ultrathink")


@pytest.fixture(params=[pytest.param({"LANG": "C"}, marks=pytest.mark.long), {"LC_ALL": "C"}], ids=str)
def desk(tmp_path, request):
    """Runs commands there as a person would, and ends the stack."""
    folder = tmp_path / "Börse (neu) 1"
    (folder / "stack").mkdir(parents=True)
    for path in ("calendar.py", "stack/__init__.py"):
        (folder / path).write_text("raise SystemExit('a module of the working folder was taken')")
    dead = "http://127.0.0.1:9"
    kept = {k: v for k, v in os.environ.items() if k.lower() not in {"no_proxy", "lang", "lc_all", "pythonpath"}}
    environment = {
        **kept,
        "http_proxy": dead, "https_proxy": dead, "HTTP_PROXY": dead, "HTTPS_PROXY": dead, **request.param,
        "ULTRATHINK_HOME": str(folder / "zu Hause"), "ULTRATHINK_MODEL_REPOSITORY": str(folder / "mo dels"),
    }  # fmt: skip

    def run(*words):
        done = subprocess.run(
            [COMMAND, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
        return done.stdout

    yield folder, run
    run("stack", "down")


def test_a_model_goes_from_a_file_to_served(desk):
    folder, run = desk
    # The desk's own gateway would wait for its model, and the status would not be ready.
    run("stack", "up", "--profile", "servers", "--ports", "auto")
    write_times(folder / "mal zwei.onnx", 2.0)
    told = json.loads(
        run("export", "model", "./mal zwei.onnx", "--name", "times", "--max-batch", "64", "--release", "--json")
    )
    assert told["released"][0]["version"] == 1
    assert "passes" in run("export", "verify", "times", "--no-log")
    assert json.loads(run("stack", "status", "--json"))["ready"]
    # Nobody has misread the name, and made a folder of what it read.
    assert list(folder.parent.iterdir()) == [folder]
    assert list((folder / "zu Hause/kafka/1/data").iterdir())

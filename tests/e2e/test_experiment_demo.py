"""`make experiment-demo`, as a person runs it: what was planted is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT


@pytest.mark.long
def test_what_was_planted_is_found(tmp_path):
    command = [
        str(Path(sys.executable).parent / "ultrathink"),
        "experiment",
        "demo",
        "--json",
        "--home",
        str(tmp_path / "home"),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "ULTRATHINK_HOME"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=590
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["as_planted"] is True
    verdicts = {one["arm"]: one["verdict"] for one in told["evaluation"]["challengers"]}
    assert verdicts["signal"] == "better"
    assert verdicts["contrary"] in {"worse", "undecided"}
    assert "signal is better than the champion" in (tmp_path / "home/report/experiment.html").read_text()

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
    signal, contrary = (told["experiments"][arm] for arm in ("signal", "contrary"))
    assert signal["evaluation"]["challengers"][0]["verdict"] == "better"
    acts = [said["act"] for said in signal["experiment"]["said"]]
    # On a slow machine the market is over before the last ramp.
    assert [act for k, act in enumerate(acts) if act not in acts[:k]] == [
        "create",
        "start",
        "ramp",
        "stop",
        "promote",
    ]
    assert acts.count("ramp") >= 2
    assert signal["live"][0]["fallbacks"] < 0.5 * signal["live"][0]["rows"]
    assert contrary["experiment"]["said"][-1]["by"] == "experiments"
    assert "does harm" in told["stopped"]
    version = signal["experiment"]["definition"]["challengers"][0]["version"]
    assert told["promoted"]["released"]["version"] == version
    # Its report is with each of the models that it was made of.
    assert len(told["promoted"]["attached"]) == 3
    text = (tmp_path / "home/report/signal.html").read_text()
    assert "signal is better than the champion" in text
    assert "Who did what" in text

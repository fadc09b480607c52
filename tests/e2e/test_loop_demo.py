"""`ultrathink demo --loop`, as a person runs it: the loop closes by itself, also where each step of it is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT
from trainers.orchestrator.cycle import KINDS, REJECT


def shown(home, *more, seconds):
    environment = {name: value for name, value in os.environ.items() if name != "ULTRATHINK_HOME"}
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ultrathink"), *more, "--json", *home],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=seconds,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def check(told):
    assert told["found_after"] > 0
    assert told["alarms"]
    assert told["promoted"] != told["champion"]
    assert told["same_bytes"] is True
    assert told["rollback_s"] <= 5.0
    # One that was no step forward is followed by another.
    last = [s["run"] for s in told["steps"] if s["kind"] == "update"][-1]
    done = [s["step"] for s in told["steps"] if s["run"] == last and s["end"] == "done"]
    assert done == list(KINDS["update"])
    assert ("watch", "rejected") in [(s["step"], s["end"]) for s in told["steps"] if s["kind"] == "guard"]
    assert "net utility" in told["taken_back"]
    assert "serves again, the same bytes as before" in told["taken_back"]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_market_turns_and_the_desk_learns_it_and_it_turns_back(tmp_path):
    told = shown(["--home", str(tmp_path / "home")], "demo", "--loop", seconds=850)
    check(told)
    assert told["seconds"] < 600


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_so_it_does_where_each_step_is_killed_once(tmp_path):
    told = shown(["--keep", str(tmp_path / "home")], "chaos", "--loop", seconds=1450)
    check(told)
    assert {(one["kind"], one["step"]) for one in told["kills"]} == {
        *(("update", step) for step in KINDS["update"]), *(("guard", step) for step in (*KINDS["guard"], REJECT)),
    }  # fmt: skip
    assert all(one["again_s"] <= 60.0 and one["done"] == 1 for one in told["kills"])

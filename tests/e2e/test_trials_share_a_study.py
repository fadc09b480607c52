"""Trials of one study, by two orchestrators at once: what each found the others know, and a killed one is taken up."""

from __future__ import annotations

import json
import os
import signal

import pytest

from stack.processes.orchestrator import running_orchestrator
from stack.processes.settings import orchestrator_settings
from tests.e2e.test_orchestrated_cycle import say, told
from tests.waiting import eventually
from trainers.orchestrator.executors.local import place_of
from trainers.trials.search import OWNER, open_shared

TRIALS = 4
SPEC = {"study": "shared", "data": ["simulate:regimes?seed=3&ticks=9000&symbols=3"],
        "training": {"epochs": 1}, "needs": {"trial": {"memory_mb": 2500}}}  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(900)
def test_trials_share_a_study_and_a_killed_one_is_taken_up(stack, tmp_path):
    path = tmp_path / "trial.json"
    path.write_text(json.dumps(SPEC))
    made = json.loads(
        say("submit", "--kind", "trial", "--times", str(TRIALS), "--spec", str(path), "--reason", "x", "--json")
    )
    runs = [one["id"] for one in made]
    given = {"memory_mb": 6000, "desk_metrics": "", "port": 0}
    with (
        running_orchestrator(stack, **given, folder=tmp_path / "one"),
        running_orchestrator(stack, **given, folder=tmp_path / "two"),
    ):
        # Once its study knows it.
        first = eventually(
            lambda: (one := told(runs[0]))["run"]["progress"].get("stage", "").startswith("trial") and one, 240
        )
        os.kill(place_of(first["attempts"][-1]["reference"]).pid, signal.SIGKILL)
        for run in runs:
            one = eventually(lambda run=run: (found := told(run))["run"]["ended_s"] and found, 400)
            assert one["run"]["verdict"] == "succeeded", "\n".join(one["explanation"])
    study = open_shared("shared", orchestrator_settings().postgres_url.get_secret_value(), 7)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * TRIALS
    assert {trial.user_attrs[OWNER] for trial in study.trials} == set(runs)
    # Two that make a study's tables at once may be told to try again: that is no loss.
    ends = [one["end"] for one in told(runs[0])["attempts"]]
    assert "lost" in ends
    assert ends[-1] == "done"

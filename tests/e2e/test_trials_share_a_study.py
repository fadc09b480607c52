"""Trials of one study, by two orchestrators at once: what each found the others know, and a killed one is taken up."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress

import psutil
import pytest

from stack.processes.orchestrator import running_orchestrator
from stack.processes.settings import orchestrator_settings
from tests.e2e.test_orchestrated_cycle import say, told
from tests.waiting import eventually
from trainers.orchestrator.executors.local import place_of
from trainers.trials.search import OWNER, open_shared

TRIALS, TRIAL_MB, BUDGET_MB = 4, 2500, 6000
SPEC = {"study": "shared", "data": ["simulate:regimes?seed=3&ticks=9000&symbols=3"],
        "training": {"epochs": 1}, "needs": {"trial": {"memory_mb": TRIAL_MB}}}  # fmt: skip


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


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_20_trials_queued_at_once_finish_in_their_order_within_the_budget(stack, tmp_path):
    path = tmp_path / "trial.json"
    path.write_text(json.dumps({**SPEC, "study": "twenty"}))
    made = json.loads(
        say("submit", "--kind", "trial", "--times", "20", "--spec", str(path), "--reason", "x", "--json")
    )
    runs = [one["id"] for one in made]
    taken = []
    with running_orchestrator(
        stack, memory_mb=BUDGET_MB, desk_metrics="", port=0, folder=tmp_path / "one"
    ) as process:
        for run in runs:
            eventually(lambda run=run: taken.append(memory_mb(process.pid)) or told(run)["run"]["ended_s"], 400)
    # Of the last ones the process' end is kept a moment later.
    found = [eventually(lambda run=run: (one := told(run))["attempts"][-1]["ended_s"] and one) for run in runs]
    assert {one["run"]["verdict"] for one in found} == {"succeeded"}
    spans = [(one["attempts"][0]["started_s"], one["attempts"][-1]["ended_s"]) for one in found]
    assert all(len(one["attempts"]) == 1 for one in found)
    assert spans == sorted(spans, key=lambda span: span[0])
    # Two fit at once, and at no time three; what they were promised they did not exceed.
    assert max(sum(begin <= now < end for begin, end in spans) for now, _ in spans) == 2
    assert 0 < max(taken) < BUDGET_MB
    assert all(0 < one["attempts"][0]["peak_mb"] <= TRIAL_MB for one in found)


def memory_mb(orchestrator):
    """What its steps have resident."""
    total = 0
    for child in psutil.Process(orchestrator).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            total += child.memory_info().rss
    return total / 2**20

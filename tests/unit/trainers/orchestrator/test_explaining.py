"""What became of an attempt, and why a run stands where it does, in words."""

from __future__ import annotations

import pytest

from trainers.orchestrator.cycle import RunState, StepEnd, Verdict
from trainers.orchestrator.engine import explain
from trainers.orchestrator.explaining import explanation
from trainers.orchestrator.ports import Seen
from trainers.orchestrator.runs import Attempt, Run, RunRequest


def attempt(step="train", fence=1, end=None, why=""):
    return Attempt(
        run="abc", fence=fence, step=step, pool="here", reference="", holder="", memory_mb=3_000, gpu_mb=0, started_s=100.0,
        ended_s=110.0, end=end, exit_code=None, peak_mb=None, why=why,
    )  # fmt: skip


def run(**given):
    told = {
        "id": "abc", "request": RunRequest(reason="a new week", by="anna"), "state": RunState.READY, "step": "train",
        "verdict": Verdict.NONE, "why": "", "fence": 2, "lease_until_s": None, "not_before_s": 0.0, "divisor": 1,
        "cancelled": "", "outputs": {}, "progress": {}, "submitted_s": 0.0, "ended_s": None,
    }  # fmt: skip
    return Run(**{**told, **given})


@pytest.mark.parametrize(
    ("seen", "end", "halve", "words"),
    [
        (
            Seen(False, -9, out_of_memory=True, peak_mb=2_900),
            StepEnd.AGAIN,
            True,
            "killed (exit 137), which is what the kernel does",
        ),
        (Seen(False, 137, out_of_memory=None), StepEnd.AGAIN, True, "killed (exit 137)"),
        (Seen(False, -9, out_of_memory=False), StepEnd.LOST, False, "somebody ended it"),
        (Seen(False, 75), StepEnd.LOST, False, "it left"),
        (Seen(False, -15), StepEnd.LOST, False, "ended by signal 15"),
        (Seen(False, 0), StepEnd.LOST, False, "it ended without a word"),
        (Seen(False, None, why="its Job was deleted"), StepEnd.LOST, False, "its Job was deleted"),
        (Seen(False, 1), StepEnd.AGAIN, False, "exit 1: ImportError: no torch"),
    ],
)
def test_what_did_not_tell_its_end_is_explained(seen, end, halve, words):
    found = explain(attempt(), seen, "ImportError: no torch")
    assert (found.end, found.halve) == (end, halve)
    assert words in found.why


def test_a_run_is_explained_from_its_beginning_to_where_it_stands():
    told = explanation(
        run(state=RunState.ENDED, verdict=Verdict.REJECTED, why="edge: 0, wanted at least 1", ended_s=200.0, step="gates",
            outputs={"train": {"summary": "no edge survives costs"}}),
        [attempt(fence=1, end=StepEnd.LOST, why="killed"), attempt(fence=2, end=StepEnd.LOST, why="killed"),
         attempt(fence=3, end=StepEnd.DONE), attempt("gates", 4, StepEnd.REJECTED, "edge: 0, wanted at least 1")],
    )  # fmt: skip
    assert told == [
        "1970-01-01 00:00:00: submitted by anna, because a new week (trigger: hand).",
        "train was lost, and begun anew, 2 times after 20 s: killed.",
        "train was done after 10 s.",
        "train: no edge survives costs",
        "gates spoke against the model after 10 s: edge: 0, wanted at least 1.",
        "1970-01-01 00:03:20: it was rejected: edge: 0, wanted at least 1.",
    ]


def test_what_it_waits_for_or_does_is_told():
    assert explanation(run(why="waits: run b comes before it"), [])[-1] == (
        "It waits at step 3 of 10, train: waits: run b comes before it."
    )
    doing = run(state=RunState.RUNNING, progress={"stage": "fold 1", "done": 3, "total": 1_000})
    assert explanation(doing, [])[-1] == "It is at step 3 of 10, train (fold 1, 3 of 1,000)."
    assert "is being cancelled: wrong data" in explanation(run(cancelled="wrong data"), [])[-1]
    back = run(step="reject", verdict=Verdict.FAILED, why="no")
    assert explanation(back, [])[-1] == "What it began is being put back; then it failed: no."

"""The process that does a step: of all that the steps need, it loads what its own does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib import import_module
from typing import Any

from connectors.priority import yield_to_all, yield_to_others
from stack.processes.settings import orchestrator_settings
from trainers.orchestrator.executors.local import own_reference
from trainers.orchestrator.step import StepContext, run_step
from trainers.orchestrator.store import Store
from trainers.orchestrator.store.transitions import yields

WATCH = "watch"
#: Step -> its module here, and its function there.
STEPS: Mapping[str, tuple[str, str]] = {
    "collect": ("learning", "collect"),
    "build": ("learning", "build"),
    "train": ("learning", "train_models"),
    "ripen": ("lived_update", "ripen"),
    "update": ("lived_update", "update_models"),
    "assess": ("lived", "assess"),
    "watch": ("guarding", "watch"),
    "gates": ("learning", "gates"),
    "export": ("learning", "export"),
    "verify": ("learning", "verify"),
    "release": ("comparing", "release"),
    "shadow": ("comparing", "shadow"),
    "canary": ("comparing", "canary"),
    "promote": ("concluding", "promote_challenger"),
    "reject": ("concluding", "reject"),
    "trial": ("trials", "trial"),
}


def do_step(run_id: str, fence: int) -> int:
    """The work of a step's process; its exit code. Raises UltraThinkError where the run cannot be read."""
    settings = orchestrator_settings()
    with closing(Store(settings.postgres_url.get_secret_value())) as store:
        run = store.runs.get(run_id)
        step = run.step
        if step != WATCH:
            # Who watches over the desk acts for it.
            yield_to_others(settings.step_nice if yields(run) else settings.nice)
            if yields(run):
                yield_to_all()
        sys.stderr.write(f"{step} of run {run_id}, attempt {fence}\n")
        return run_step(store.runs, run_id, fence, {step: work_of(step)} if step in STEPS else {}, own_reference())


def work_of(step: str) -> Callable[[StepContext], Any]:
    """What a step does; its libraries are loaded as it begins, when somebody says already that it lives."""
    module, function = STEPS[step]

    def work(context: StepContext) -> Any:
        found: Callable[[StepContext], Any] = getattr(
            import_module(f"stack.workflows.orchestrator.{module}"), function
        )
        return found(context)

    return work

"""The step of a trial: one set of hyperparameters, of a study that many machines work on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stack.processes.settings import orchestrator_settings
from stack.servers.settings import load
from stack.workflows.orchestrator.asked import TrialSpec, read, train_request
from stack.workflows.training.train import dataset_of
from trainers.orchestrator.step import StepContext


def trial(context: StepContext) -> dict[str, Any]:
    """Ask the study, train and test on the first part of the time, and tell it; a killed one is taken up again."""
    from trainers.trials import worker
    from trainers.trials.search import open_shared, suggest, taken_up, tell

    spec = read(dict(context.spec), TrialSpec, "trial")
    request = train_request(spec, context.run.divisor)
    folder = dataset_of(request, load().absolute_home, context.progress)
    base = request.settings()
    url = orchestrator_settings().postgres_url.get_secret_value()
    study = open_shared(spec.study, url, base.fold.seed)
    one = taken_up(study, context.run.id)
    settings = suggest(one, base)
    asked = worker.Spec(f"trial {one.number}", str(Path(folder)), settings, spec.hold_out)

    def told(line: worker.Line) -> None:
        if line.fold is not None:
            context.progress(f"trial {one.number}", line.fold.fold, settings.folds)
            one.report(line.fold.t_statistic, line.fold.fold)

    result = worker.run(asked, told)
    context.check()
    tell(study, one, result.value)
    return {"study": spec.study, "number": one.number, "value": result.value, "parameters": dict(one.params),
            "summary": f"trial {one.number} of {spec.study}: mean t {result.value:+.3g}"}  # fmt: skip

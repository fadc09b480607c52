"""What serves goes back to what did before, by the repository's own journal."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from gateway.settings import GatewaySettings
from stack.workflows.experiments.deciding import decides
from stack.workflows.orchestrator.asked_lived import GuardSpec
from trading.experiments.definition import ServedModel
from trainers.orchestrator.step import StepContext

if TYPE_CHECKING:
    from stack.workflows.asking import ModelPlace


def rolled_back(place: ModelPlace, spec: GuardSpec) -> bool:
    """Whether the last good version was put back after the promoted one was released: by the order of the
    repository's own journal, for clocks jump.
    """
    steps = passed(place, spec.promoted.model)
    released = ("release", spec.promoted.version)
    behind = steps[steps.index(released) :] if released in steps else []
    return ("rollback", spec.last_good.version) in behind


def was_released(place: ModelPlace, model: ServedModel) -> bool:
    """Whether a version ever was released, by the repository's own journal."""
    return ("release", model.version) in passed(place, model.model)


def passed(place: ModelPlace, model: str) -> list[tuple[str, int]]:
    """Releases and rollbacks of a model that came to be served, in their order."""
    from exporters.release.journal import Journal

    return [
        (one.begun.action, one.begun.version)
        for one in Journal(place.repository.journal).transactions(model)
        if one.begun.model == model and one.last.step in {"flipped", "done"}
    ]


def roll_back(place: ModelPlace, spec: GuardSpec, context: StepContext, why: str) -> None:
    """Serve the last good version again, if the promoted one is served. Raises ExportError, ServiceUnavailable."""
    from exporters.release.releases import Releases
    from exporters.release.triton_client import TritonServer

    with closing(TritonServer(place.address)) as triton:
        releases = Releases(place.repository, triton, place.gpu, context.progress)
        releases.rollback(spec.promoted.model, spec.last_good.version, instead_of=spec.promoted.version, reason=why)


def wait_for(settings: GatewaySettings, model: ServedModel, timeout_s: float = 30.0) -> bool:
    """Whether the desk is decided by a model, within so long."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        if decides(settings) == model:
            return True
        time.sleep(0.1)
    return False

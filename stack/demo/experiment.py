"""An experiment from nothing, on the real servers: three models of a market whose signal is known, and which is
better.

The champion has learned from a market without a signal, one challenger from one whose quotes foretell its moves,
and one from a market whose quotes foretell the opposite. On a market with the signal the second must be found
better, and the third worse.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec import Struct

from exporters import profiles
from exporters.export import export_pipeline
from exporters.options import Options
from exporters.release.releases import Releases
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from gateway.control.control import Control
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from services.experiments.call_budget import CallLimits
from services.experiments.evaluation import Evaluation
from services.experiments.statistics.verdict import Verdict
from stack.demo.run import LIMITS
from stack.processes.gateway import running_gateway
from stack.processes.settings import gateway_settings
from stack.servers.settings import StackSettings
from stack.workflows.experiments.report import write_page
from stack.workflows.experiments.shadow import Beginning, begun
from stack.workflows.sandbox import MODELS
from stack.workflows.training.settings import TrainRequest
from stack.workflows.training.train import train
from trading.experiments.definition import (
    AtLeast,
    Challenger,
    ExperimentDefinition,
    GuardedMetric,
    PrimaryMetric,
    ServedModel,
)
from trading.history import open_source
from trading.risk import limits_file

FUSED = MODELS[1]
#: Arm -> the market that it has learned from.
TAUGHT = {
    "champion": "simulate:calm?seed=1&ticks=12000&symbols=4",
    "signal": "simulate:signal?seed=2&ticks=60000&symbols=4",
    "contrary": "simulate:contrary?seed=3&ticks=60000&symbols=4",
}
#: Far enough for what quotes foretell there, and not so far that training takes it for a leak.
HORIZON = "1s"
#: The market that is traded: it has the signal.
TICKS = 90_000
MARKET = f"simulate:signal?seed=99&ticks={TICKS}&symbols=4"
RATE_HZ, LOOK_S = 2000.0, 0.5
#: A deadline is the live path's to keep: here every tick is to be decided, however slow the machine.
PATIENT: dict[str, Any] = {"budget_ms": "86400000", "reserve_ms": "0", "shed_below_ms": "0", "model_name": FUSED}


class Shown(Struct, frozen=True):
    """What the experiment came to.

    Attributes:
        experiment, evaluation: what was compared, and what was found.
        decisions: of the desk.
        page: where it is written.
        as_planted: whether the one that knows the signal was found better, and the contrary one worse.
    """

    experiment: ExperimentDefinition
    evaluation: Evaluation
    decisions: int
    page: str
    as_planted: bool


Stage = Callable[[str], None]
#: What is done, how much of it, and of how much.
Progress = Callable[[str, int, int], None]


def experiment_of(versions: dict[str, int]) -> ExperimentDefinition:
    """The comparison of the three."""
    return ExperimentDefinition(
        version=1,
        name="planted",
        champion=ServedModel(FUSED, versions["champion"]),
        challengers=tuple(Challenger(arm, FUSED, versions[arm]) for arm in ("signal", "contrary")),
        primary=PrimaryMetric(0.01),
        block="1s",
        planned_blocks=600,
        at_least=AtLeast(100, "1m"),
        guardrails=(
            GuardedMetric("drawdown", 8.0),
            GuardedMetric("error_rate", 0.01, 0.5),
        ),
    )


def teach(settings: StackSettings, stage: Stage) -> dict[str, int]:
    """Train and publish the three, and release the champion; arm -> its version."""
    gpu, container = profiles.find_gpu(profiles.DEFAULT_GPU), profiles.find(profiles.DEFAULT_CONTAINER)
    repository, versions = ModelRepository(settings.model_repository), dict[str, int]()
    for arm, source in TAUGHT.items():
        stage(f"train {arm} on {source}")
        train(TrainRequest((source,), horizon=HORIZON, folds=1), lambda *_: None)
        stage(f"export {arm}")
        options = Options(settings.mlflow_uri, container, gpu, "challenger")
        published = export_pipeline(MODELS[0], options, repository, lambda _: None, fuse=True)
        versions[arm] = next(one.version for one in published if one.name == FUSED)
        if arm == "champion":
            stage("release the champion")
            with closing(TritonServer(settings.triton_grpc)) as triton:
                Releases(repository, triton, gpu, lambda _: None).release(FUSED, versions[arm])
    return versions


def run(settings: StackSettings, stage: Stage, progress: Progress) -> Shown:
    """The whole of it, on servers that are up."""
    definition = experiment_of(teach(settings, stage))
    stage(f"decide {MARKET} by the champion")
    decide(settings, progress)
    stage("have both challengers decide the same ticks")
    evaluation, decisions, page = compare(definition, settings.absolute_home / "report", progress)
    return Shown(definition, evaluation, decisions, str(page), as_planted(evaluation))


def decide(settings: StackSettings, progress: Progress) -> None:
    """Have the champion decide the market."""
    control = Control(settings.kafka_bootstrap, gateway_settings().control_topic, settings.redis_url)
    control.apply(limits_file.read(LIMITS), "the demo's desk", "experiment demo")
    with running_gateway(settings, **PATIENT) as gateway:
        ticks = open_source(MARKET).records()
        publisher = TickPublisher(settings.kafka_bootstrap, gateway_settings().ticks_topic)
        publisher.publish(plan(ticks, Speed("constant", rate_hz=RATE_HZ)))
        while (done := int(gateway.decided())) < TICKS:
            progress("decided", done, TICKS)
            time.sleep(LOOK_S)


def compare(definition: ExperimentDefinition, folder: Path, progress: Progress) -> tuple[Evaluation, int, Path]:
    """Run the shadow over what was decided, and write its page."""
    page = folder / "experiment.html"
    with begun(definition, gateway_settings(), CallLimits(1.0), Beginning()) as found:
        shadow = found.run
        while not shadow.ended and not shadow.has_reached(found.ends):
            shadow.turn(0.2)
            progress("compared", shadow.rows, found.known)
        evaluation = shadow.evaluation()
        write_page(page, definition, evaluation, shadow.series, shadow.ended)
    return evaluation, shadow.rows, page


def as_planted(evaluation: Evaluation) -> bool:
    """Whether the one that knows the signal was found better, and the one that knows its opposite worse."""
    knows, contrary = evaluation.challengers
    is_worse = contrary.verdict is Verdict.WORSE or bool(contrary.breached)
    return knows.verdict is Verdict.BETTER and not knows.breached and is_worse

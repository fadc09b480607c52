"""The experiments' process of this desk: runs read the desk's logs, and challengers' copies stay loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from exporters.release.recalled import Holding
from gateway.settings import GatewaySettings
from services.experiments.call_budget import CallLimits
from services.experiments.desk_run import DeskDump, DeskRun
from services.experiments.main import Opened, WatchedDesk, run
from services.experiments.running import RunDump, ShadowRun
from services.experiments.settings import ExperimentsSettings
from services.experiments.watching import Opening
from stack.workflows.asking import place_of_models
from stack.workflows.experiments.desk import desk_run
from stack.workflows.experiments.shadow import Beginning, begun
from trading.experiments.definition import ExperimentDefinition
from trading.models.copies import kept_for_experiment


def serve(settings: ExperimentsSettings, desk: GatewaySettings, listening: Callable[[int], None]) -> None:
    """Watch the desk's experiments until SIGTERM or SIGINT; see `services.experiments.main.run`.

    Args:
        settings: of this process.
        desk: of the gateways: where their logs and Triton are.
        listening: told of the port of its metrics.
    """
    limits = CallLimits(settings.share, settings.yield_above_ms)
    place = place_of_models(settings.repository)
    #: Whose challengers are asked: they share what calls may take.
    asking: list[str] = []

    @contextmanager
    def shadow(opening: Opening[RunDump]) -> Iterator[ShadowRun]:
        """A run beside the desk; see `Side`."""
        definition = opening.experiment.definition
        beginning = Beginning(
            since_ns=opening.since_ns,
            resumed=opening.resumed,
            place=place,
            holding=lambda arm: holding(definition, arm, opening.runs),
            given_up=opening.is_over,
        )
        with begun(definition, desk, limits, beginning, among=lambda: len(asking)) as found:
            asking.append(definition.name)
            try:
                yield found.run
            finally:
                asking.remove(definition.name)

    def on_the_desk(opening: Opening[DeskDump]) -> AbstractContextManager[DeskRun]:
        """A run by the desk's own decisions; see `Side`."""
        return desk_run(opening, desk)

    opened = Opened(shadow, on_the_desk)
    run(settings, WatchedDesk(desk.kafka_bootstrap, desk.topics, desk.group), opened, listening)


def holding(definition: ExperimentDefinition, arm: str, runs: Callable[[], bool]) -> Holding:
    """How a challenger's copy is held; `runs` says whether the experiment goes on.

    A restart of this process must not take from the gateways what they ask. They look for a canary's challengers
    under the experiment's name, and wait for them; for a shadow's nobody does.
    """
    canary = definition.kind == "canary"
    return Holding(kept_for_experiment(definition.name, "" if canary else arm), runs, yields=not canary)

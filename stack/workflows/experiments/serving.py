"""The experiments' process of this desk: runs read the desk's logs, and challengers' copies stay loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.settings import GatewaySettings
from services.experiments.call_budget import CallLimits
from services.experiments.main import WatchedDesk, run
from services.experiments.running import ShadowRun
from services.experiments.settings import ExperimentsSettings
from services.experiments.watching import Opening
from stack.workflows.asking import place_of_models
from stack.workflows.experiments.shadow import Beginning, begun
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

    @contextmanager
    def opened(opening: Opening) -> Iterator[ShadowRun]:
        """A run over the desk's logs; see `Open`."""
        definition = opening.experiment.definition
        canary = opening.arms if definition.kind == "canary" else None
        beginning = Beginning(
            since_ns=opening.since_ns,
            resumed=opening.resumed,
            canary=canary,
            place=place,
            # Gateways look for a canary's challengers under this name.
            kept_for=lambda arm: kept_for_experiment(definition.name, "" if canary else arm),
            # A restart of this process must not take from the gateways what they ask.
            left=opening.runs,
        )
        with begun(definition, desk, limits, beginning) as found:
            yield found.run

    run(settings, WatchedDesk(desk.kafka_bootstrap, desk.topics, desk.group), opened, listening)

"""A shadow of this desk: what was decided is read, challengers are asked, and nothing of the desk is moved."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from msgspec import Struct

from connectors.kafka.cluster import require
from connectors.kafka.watermarks import Watermarks, offset_at
from exporters.release.recalled import Holding
from gateway.adapters.clock import SystemClock
from gateway.settings import GatewaySettings
from services.experiments.asking import ArmModel, PatientModel
from services.experiments.block_series import BlockSeries
from services.experiments.call_budget import CallBudget, CallLimits
from services.experiments.desk_log import BESIDE_PACE, KafkaCommands, KafkaDecisions, KafkaDeskLog
from services.experiments.partition_shadow import PartitionShadow
from services.experiments.ports import ChallengerModel
from services.experiments.running import RunDump, ShadowParts, ShadowRun
from stack.workflows.asking import AskedModel, ModelPlace, opened_model, place_of_experiments
from stack.workflows.experiments.deciding import newest_start
from trading.arrays import Float32Array
from trading.decision.policy import REBALANCE_BAND
from trading.errors import ConfigurationError
from trading.experiments.definition import CHAMPION, ExperimentDefinition, ServedModel
from trading.models.prediction import Prediction
from trading.risk.limits import LimitSet

MS = 1_000_000


class Begun(Struct, frozen=True):
    """A shadow that has begun.

    Attributes:
        run: as it goes.
        ends: partition -> offset after the decisions that lay there when it began.
        known: how many these are, at most: transactions leave marks among them.
    """

    run: ShadowRun
    ends: Mapping[int, int]
    known: int


class Beginning(Struct, frozen=True):
    """How a shadow begins.

    Attributes:
        since_ns: wall time of the first decisions that count, ns since 1970; None for all that there are.
        resumed: where it stood; None to begin with empty books.
        place: where the models lie; None: as the settings say.
        holding: arm -> what a copy of its model is held for, and how.
        given_up: whether nobody wants challengers' answers any more.
    """

    since_ns: int | None = None
    resumed: RunDump | None = None
    place: ModelPlace | None = None
    # Two arms may have a step in common, and two shadows a challenger: a copy each.
    holding: Callable[[str], Holding] = lambda arm: Holding(f"shadow-{os.getpid()}-{arm}")
    given_up: Callable[[], bool] = lambda: False


@contextmanager
def begun(
    experiment: ExperimentDefinition,
    settings: GatewaySettings,
    limits: CallLimits,
    beginning: Beginning,
    among: Callable[[], int] = lambda: 1,
) -> Iterator[Begun]:
    """Begin one, or go on with one.

    Args:
        experiment: what is compared.
        settings: of the desk's gateways: where its logs and Triton are.
        limits: of the challengers' calls.
        beginning: from where, and how.
        among: how many share the limits.

    Raises:
        ConfigurationError: a challenger is neither served nor to be loaded, or does not take or give what the
            desk's models do.
        ServiceUnavailable: a server does not answer.
    """
    topics, bootstrap, resumed = settings.topics, settings.kafka_bootstrap, beginning.resumed
    partitions = require(bootstrap, topics.decisions)
    places = (
        resumed.places.positions if resumed is not None else first_places(settings, partitions, beginning.since_ns)
    )
    with ExitStack() as open_things:
        clock = SystemClock()
        budget = CallBudget(limits, clock, among)
        models = opened_arms(experiment, budget, beginning, open_things)
        base, band = rules_of(settings, len(partitions))
        commands = KafkaCommands(bootstrap, topics.control, base)
        shadows = {p: PartitionShadow(p, experiment, base, commands, band) for p in partitions}
        with closing(Watermarks(bootstrap)) as watermarks:
            ends = {p: watermarks.bounds(topics.decisions, p)[1] for p in partitions}
        known = sum(max(0, ends[p] - at) for p, at in places.items())
        decided = None if resumed is None else resumed.places.decided
        decisions = KafkaDecisions(bootstrap, topics, places, BESIDE_PACE, decided)
        log = open_things.enter_context(closing(KafkaDeskLog(bootstrap, topics, decisions)))
        series = BlockSeries(experiment.arms, len(partitions))
        run = ShadowRun(experiment, ShadowParts(log, models, shadows, series, budget))
        if resumed is not None:
            run.load(resumed)
        yield Begun(run, ends, known)


def rules_of(settings: GatewaySettings, partitions: int) -> tuple[LimitSet, float]:
    """Limits of the desk's books before any command, and its rebalance band. Raises ServiceUnavailable."""
    start = newest_start(settings.kafka_bootstrap, settings.topics.starts, settings.decisions_topic)
    account, strategy, band = (
        (settings.account, settings.strategy, REBALANCE_BAND)
        if start is None
        else (start.account, start.strategy, start.rebalance_band)
    )
    return LimitSet(None, account, strategy, partitions), band


def first_places(settings: GatewaySettings, partitions: Iterable[int], since_ns: int | None) -> dict[int, int]:
    """Partition -> offset of the first decision that counts. Raises ServiceUnavailable."""
    bootstrap, topic = settings.kafka_bootstrap, settings.decisions_topic
    return {p: 0 if since_ns is None else offset_at(bootstrap, topic, p, since_ns // MS) for p in partitions}


def opened_arms(
    experiment: ExperimentDefinition, budget: CallBudget, beginning: Beginning, opened: ExitStack
) -> dict[str, ArmModel]:
    """Each arm's model. Raises ConfigurationError, ServiceUnavailable."""
    place, models = beginning.place or place_of_experiments()[0], {}
    for arm, served in experiment.models.items():
        # The champion is asked where a challenger decided in its place, if anywhere.
        opening = partial(opened.enter_context, opened_arm(place, arm, served, beginning))
        model: ChallengerModel = OpenedLater(opening) if arm == CHAMPION else opening()
        models[arm] = ArmModel(arm, served, PatientModel(arm, model, budget, SystemClock(), beginning.given_up))
    return models


class OpenedLater:
    """Implements ChallengerModel: one that is opened when it is asked for the first time."""

    def __init__(self, opening: Callable[[], AskedModel]) -> None:
        """`opening` raises ConfigurationError and ServiceUnavailable."""
        self._opening = opening
        self._model: AskedModel | None = None

    def predict(self, features: Float32Array, timeout_s: float) -> Prediction:
        """See AskedModel."""
        if self._model is None:
            self._model = self._opening()
        return self._model.predict(features, timeout_s)


@contextmanager
def opened_arm(place: ModelPlace, arm: str, model: ServedModel, beginning: Beginning) -> Iterator[AskedModel]:
    """An arm's model, asked as a gateway asks. Raises ConfigurationError, ServiceUnavailable."""
    with ExitStack() as opened:
        one = opened_model(place, model.model, str(model.version), beginning.holding(arm))
        try:
            asked = opened.enter_context(one)
        except ConfigurationError as error:
            raise ConfigurationError(f"challenger {arm}: {error}") from error
        yield asked

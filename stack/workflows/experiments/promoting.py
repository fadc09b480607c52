"""A challenger becomes the champion: only where its experiment says that it is better, or somebody answers for it.

Through the exporters' gates: a release probes the version with its golden rows before anybody is served by it. The
experiment's page is attached to the model's versions in MLflow.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec import Struct

from exporters.errors import ExportError
from exporters.release.journal import Journal
from exporters.release.released import Released
from exporters.release.releases import Releases
from exporters.release.triton_client import TritonServer
from exporters.sources.registry import attach_evidence
from gateway.settings import GatewaySettings
from services.experiments.statistics.verdict import Verdict
from stack.workflows.asking import ModelPlace
from stack.workflows.experiments.commanding import command
from stack.workflows.experiments.kept import CountedBlocks, KnownExperiment
from stack.workflows.experiments.report import write_page
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.experiments.definition import Challenger, ExperimentDefinition, ServedModel
from trading.experiments.register import WATCHER, ExperimentState, ExperimentWord

PAGE = "experiment.html"


class Promoted(Struct, frozen=True):
    """What was done.

    Attributes:
        experiment, arm: whose challenger it was.
        served: what is served now.
        released: by the exporters; None where it was served already.
        attached: runs in MLflow that the report was attached to.
        overridden: what spoke against it, which somebody has taken upon himself; "" where nothing did.
    """

    experiment: str
    arm: str
    served: ServedModel
    released: Released | None
    attached: list[str]
    overridden: str


def objection(found: KnownExperiment, arm: str) -> str:
    """Why a challenger must not be promoted; "" where it is known to be better, and does no harm."""
    name, said = found.experiment.definition.name, found.experiment.said
    (one,) = [c for c in found.evaluation.challengers if c.arm == arm]
    if one.breached:
        return one.sentence
    if not found.is_current:
        return f"nothing is counted of {name} since it was started last"
    # Whatever is kept: who stopped it may have had no time to keep why.
    for told in reversed(said):
        if told.act == "stop" and told.by == WATCHER:
            return f"{name} was stopped: {told.reason}"
        if told.act in {"start", "stop"}:
            break
    for live in found.live:
        if live.arm == arm and (live.breached or live.split):
            metrics = ", ".join(g.metric for g in live.breached) or "its share of the units"
            return f"{arm} did harm on the desk: {metrics}"
    return "" if one.verdict is Verdict.BETTER else one.sentence


def challenger_of(found: KnownExperiment, arm: str) -> Challenger:
    """The challenger that is meant; the only one where none is named. Raises ConfigurationError."""
    challengers = {one.arm: one for one in found.experiment.definition.challengers}
    chosen = arm or (next(iter(challengers)) if len(challengers) == 1 else "")
    if chosen not in challengers:
        names, name = ", ".join(challengers), found.experiment.definition.name
        raise ConfigurationError(f"{arm!r} is no challenger of {name}: name one of {names} with --arm")
    return challengers[chosen]


def promote(
    found: tuple[KnownExperiment, CountedBlocks],
    arm: str,
    desk: tuple[GatewaySettings, ModelPlace, str],
    told: tuple[str, str],
    progress: Callable[[str], None],
    *,
    override: bool,
    may_release: bool = True,
    on_release: Callable[[], object] = lambda: None,
) -> Promoted:
    """Stop the experiment, release the challenger, put it on record, and attach the report.

    Args:
        found: what is known of the experiment.
        arm: the challenger's; "" where there is one only.
        desk: settings of its gateways, where its models lie, and MLflow's address.
        told: why, and who.
        progress: told what is done.
        override: whether somebody answers for what speaks against it.
        may_release: false where it was released before: what was taken back since is not released again.
        on_release: called as soon as it serves, before it is put on record.

    Raises:
        ConfigurationError: something speaks against it, or it is served under another name than the champion.
        ExportError: the gates refuse it; the same is served as before.
        ServiceUnavailable: a server does not answer.
    """
    known, counted = found
    (settings, place, mlflow_uri), (reason, by) = desk, told
    definition, challenger = known.experiment.definition, challenger_of(known, arm)
    # No override helps there.
    refuse_served(definition, challenger, place, may_release=may_release)
    against = accepted(known, challenger, override=override)
    if known.experiment.state is ExperimentState.RUNNING:
        progress(f"stop {definition.name}")
        command(settings, ExperimentWord("stop", definition.name), f"{challenger.arm} is promoted: {reason}", by)
    released = None
    if may_release and served(place, challenger.model) != challenger.version:
        released = release(definition, challenger, place, progress, reason)
    on_release()
    with served_already(challenger):
        record(known, challenger, settings, (reason, by), against)
        progress("attach the report in MLflow")
        attached = attach(known, counted, challenger, (place, mlflow_uri), by)
    return Promoted(definition.name, challenger.arm, challenger.served, released, attached, against)


@contextmanager
def served_already(challenger: Challenger) -> Iterator[None]:
    """Says of a server that is away that what is left can be done later."""
    try:
        yield
    except ServiceUnavailable as error:
        raise ServiceUnavailable(
            f"{challenger.served} is served by now, and what is left is not done ({error}): the same command again "
            "does it"
        ) from error


def accepted(known: KnownExperiment, challenger: Challenger, *, override: bool) -> str:
    """What speaks against a promotion; raises ConfigurationError where nobody answers for it."""
    against = objection(known, challenger.arm)
    if against and not override:
        raise ConfigurationError(
            f"{challenger.arm} is not promoted: {against.rstrip('.')}; --override NAME promotes it all the same, "
            "and is recorded"
        )
    return against


def record(
    known: KnownExperiment, challenger: Challenger, settings: GatewaySettings, told: tuple[str, str], against: str
) -> None:
    """Say in the control topic who was promoted, once, with what spoke against it. Raises ServiceUnavailable."""
    reason, by = told
    if not any(said.act == "promote" and said.arm == challenger.arm for said in known.experiment.said):
        name = known.experiment.definition.name
        word = ExperimentWord("promote", name, arm=challenger.arm, overridden=bool(against))
        command(settings, word, f"{reason} ({against})" if against else reason, by)


def served(place: ModelPlace, model: str) -> int | None:
    """The version that is released of a model: of a release that has not passed yet, the one before."""
    for one in reversed(Journal(place.repository.journal).transactions(model)):
        if one.open and one.last.step == "begun":
            return one.changes[model].before.released
    return place.repository.serving(model).released


def refuse_served(
    definition: ExperimentDefinition, challenger: Challenger, place: ModelPlace, *, may_release: bool = True
) -> None:
    """Raise ConfigurationError where the desk is decided by something that this one was never compared with, or it
    was taken back.
    """
    if challenger.model != definition.champion.model:
        raise ConfigurationError(
            f"{challenger.arm} is {challenger.served}, and the desk is decided by {definition.champion.model}: "
            "export it as a version of that, and release it with `ultrathink export release`"
        )
    now = served(place, challenger.model)
    if not may_release and now != challenger.version:
        raise ConfigurationError(f"{challenger.served} was released, and version {now} serves by now, which stays")
    if now not in {definition.champion.version, challenger.version}:
        raise ConfigurationError(
            f"{challenger.model} serves version {now} by now, and {challenger.arm} was compared with "
            f"{definition.champion}: it may be worse than what is served; compare it with that"
        )


def release(
    definition: ExperimentDefinition,
    challenger: Challenger,
    place: ModelPlace,
    progress: Callable[[str], None],
    reason: str,
) -> Released:
    """Through the exporters' gates. Raises ExportError and ServiceUnavailable; the same is served as before."""
    try:
        with closing(TritonServer(place.address)) as triton:
            releases = Releases(place.repository, triton, place.gpu, progress)
            return releases.release(
                challenger.model, challenger.version, instead_of=definition.champion.version,
                reason=f"{definition.name}: {reason}",
            )  # fmt: skip
    except (ExportError, ServiceUnavailable) as error:
        raise type(error)(
            f"{definition.name} is stopped, and {challenger.served} was not released ({error}): "
            f"{definition.champion} decides"
        ) from error


def attach(
    known: KnownExperiment, counted: CountedBlocks, challenger: Challenger, desk: tuple[ModelPlace, str], by: str
) -> list[str]:
    """Put the experiment's page with the model's versions in MLflow; the runs that have it now."""
    place, mlflow_uri = desk
    (one,) = [c for c in known.evaluation.challengers if c.arm == challenger.arm]
    tags = {
        "experiment": known.experiment.definition.name, "experiment_arm": challenger.arm,
        "experiment_verdict": "does harm" if one.breached else one.verdict.value,
        "experiment_sentence": one.sentence, "experiment_promoted_by": by,
    }  # fmt: skip
    try:
        runs = place.repository.lineage(challenger.model, challenger.version).run_ids
    except ExportError:
        return []
    found = sorted({run for run in runs.values() if run})
    with tempfile.TemporaryDirectory() as temporary:
        page = Path(temporary) / PAGE
        write_page(page, known.experiment.definition, known.evaluation, counted, "", known)
        for run in found:
            attach_evidence(mlflow_uri, run, Path(temporary), "experiment", tags)
    return found

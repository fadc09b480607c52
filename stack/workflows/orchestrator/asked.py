"""What a run may be asked to do: data, checked whole before anything of it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from stack.workflows.orchestrator.asked_lived import (
    CheckSpec,
    GuardRules,
    GuardSpec,
    Ticks,
    check_drift,
    check_guard,
    check_same_model,
)
from stack.workflows.training.settings import TrainRequest
from trading.encoding import safe_text
from trading.errors import ConfigurationError
from trading.experiments.definition import (
    STEPS,
    AtLeast,
    Challenger,
    ExperimentDefinition,
    GuardedMetric,
    PrimaryMetric,
    ServedModel,
    Share,
    TradingCosts,
)
from trading.experiments.reading import check_definition
from trading.history.forms import check_form
from trading.market import Symbol
from trading.plain_yaml import YamlProblem, compose, to_values
from trading.spans import parse_span
from trainers.online.bounds import UpdateSettings
from trainers.orchestrator.admission import MOST_MB
from trainers.orchestrator.cycle import steps_of
from trainers.orchestrator.runs import RunRequest
from trainers.registry.promotion import AGAINST_CHAMPION, gate_names

#: The tag by which a run finds again what it has made in MLflow.
RUN = "orchestrator_run"
#: Of what is compared with the champion.
ARM = "challenger"
#: Kinds of runs that look at what the desk lived.
LIVED = frozenset({"check", "update"})
T = TypeVar("T")
Positive = Annotated[int, Meta(ge=1, le=10_000_000)]


class NeedSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What of a step's needs is known better than by us; the rest is as it is. See `Need`."""

    memory_mb: Annotated[int, Meta(ge=1, le=MOST_MB)] | None = None
    gpu_mb: Annotated[int, Meta(ge=0, le=MOST_MB)] | None = None
    yields: bool | None = None
    most_s: Annotated[int, Meta(ge=1, le=366 * 86_400)] | None = None


class TrainingSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How models are trained: as `ultrathink train all` is told.

    Attributes:
        bars, horizon, limit, seed, epochs, folds, teacher, fee_bps, slippage_bps, half_spread_bps, groups, tested,
            precision, batch_size: see `TrainRequest`.
    """

    bars: str = "ticks"
    horizon: str | None = None
    limit: Positive | None = None
    seed: Annotated[int, Meta(ge=0)] = 7
    epochs: Positive = 4
    folds: Positive = 3
    teacher: str = "auto"
    fee_bps: float = 0.5
    slippage_bps: float = 0.5
    half_spread_bps: float = 1.0
    groups: Annotated[int, Meta(ge=0, le=100)] = 0
    tested: Positive = 2
    precision: str = "fp32"
    batch_size: Annotated[int, Meta(ge=8, le=1_048_576)] = 1024


class ComparisonSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the challenger is compared with the champion on live ticks; see `ExperimentDefinition`.

    Attributes:
        block, planned_blocks, alpha, primary, guardrails, at_least, costs, symbols, steps: of the experiment.
        shadow_blocks: blocks beside the desk, before it is given a share.
        step_blocks: blocks at each share, before it is given the next.
        most: a span of wall time after which what is not known to be better is rejected.
    """

    block: str = "10m"
    planned_blocks: Annotated[int, Meta(ge=100, le=10_000_000)] = 1000
    alpha: Annotated[float, Meta(ge=0.0001, le=0.2)] = 0.05
    primary: PrimaryMetric = PrimaryMetric(0.1)
    guardrails: tuple[GuardedMetric, ...] = (
        GuardedMetric("error_rate", 0.02, 0.5), GuardedMetric("drawdown", 50.0),
    )  # fmt: skip
    at_least: AtLeast = AtLeast()
    costs: TradingCosts = TradingCosts()
    symbols: Annotated[tuple[Symbol, ...], Meta(max_length=1000)] = ()
    steps: Annotated[tuple[Share, ...], Meta(min_length=1, max_length=20)] = STEPS
    shadow_blocks: Positive = 100
    step_blocks: Positive = 20
    most: str = "14d"


class CycleSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole cycle, from data to a champion, or to a reason why not.

    Attributes:
        data: SOURCEs, or one dataset's folder; of an archive what lies there when the run begins.
        training: how models are trained.
        overrides: gates that somebody answers for: his name, and the gates' names.
        comparison: how the challenger is compared on live ticks.
        guard: when the champion that came of it is taken back.
        needs: step -> what it takes, where that is known better than by us.
    """

    data: Annotated[tuple[str, ...], Meta(min_length=1, max_length=20)]
    training: TrainingSpec = TrainingSpec()
    overrides: dict[str, tuple[str, ...]] = {}
    comparison: ComparisonSpec = ComparisonSpec()
    guard: GuardRules = GuardRules()
    needs: dict[str, NeedSpec] = {}


class UpdateSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A small step from the champion, by what the desk lived, and all that follows a training.

    Attributes:
        archive: folder that the data service writes.
        ticks: the newest ones that are looked back on.
        fresh: so many of them at least the champion must not have learned from.
        champion: only while this model's version decides, as `trading_decision/3`; "" for whatever does.
        learning: how far the step may go, and what trading costs.
        overrides, comparison, guard, needs: see `CycleSpec`.
    """

    archive: str
    ticks: Ticks = 200_000
    fresh: Annotated[int, Meta(ge=1_000, le=50_000_000)] = 20_000
    champion: Annotated[str, Meta(max_length=200)] = ""
    learning: UpdateSettings = UpdateSettings()
    overrides: dict[str, tuple[str, ...]] = {}
    comparison: ComparisonSpec = ComparisonSpec()
    guard: GuardRules = GuardRules()
    needs: dict[str, NeedSpec] = {}


class TrialSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One trial of a study: its data, the study's name, and what the study varies.

    Attributes:
        study: whose trial it is; trials of one study share what they found, wherever they run.
        data: SOURCEs, or one dataset's folder.
        training: what trials vary.
        hold_out: the last share of the time, which no trial sees.
        needs: see `CycleSpec`.
    """

    study: Annotated[str, Meta(min_length=1, max_length=100)]
    data: Annotated[tuple[str, ...], Meta(min_length=1, max_length=20)]
    training: TrainingSpec = TrainingSpec()
    hold_out: Annotated[float, Meta(ge=0.05, le=0.5)] = 0.25
    needs: dict[str, NeedSpec] = {}


SPECS: dict[str, type[Struct]] = {
    "cycle": CycleSpec, "update": UpdateSpec, "training": CycleSpec, "trial": TrialSpec, "check": CheckSpec,
    "guard": GuardSpec,
}  # fmt: skip


def check(request: RunRequest) -> None:
    """Raise ConfigurationError where a request's spec is none, and say what of it."""
    steps_of(request.kind)
    if not request.reason.strip():
        raise ConfigurationError("a run needs a reason: it is kept with it")
    if request.kind not in SPECS:
        raise ConfigurationError(
            f"{request.kind} is no kind of run that is submitted: there are {', '.join(SPECS)}"
        )
    found: Any = read(request.spec, SPECS[request.kind], request.kind)
    if isinstance(found, CycleSpec | TrialSpec):
        check_training(found)
    if isinstance(found, UpdateSpec):
        check_update(found)
    if isinstance(found, CycleSpec | UpdateSpec):
        check_guard(found.guard)
        check_comparison(found.comparison)
        check_overrides(found.overrides)
    if isinstance(found, GuardSpec):
        check_guard(found.rules)
        check_same_model(found)
    if isinstance(found, CheckSpec):
        check_drift(found)
    if isinstance(found, CheckSpec | GuardSpec):
        read(found.needs, dict[str, NeedSpec], "need")
    if unknown := sorted(set(found.needs) - set(steps_of(request.kind))):
        raise ConfigurationError(f"needs: a {request.kind} has no step {', '.join(unknown)}")


def check_training(spec: CycleSpec | TrialSpec) -> None:
    """Raise ConfigurationError where nothing can be trained of it; that its data are there is seen when they are
    read.
    """
    train_request(spec).check()
    train_request(spec).build_settings()
    for source in spec.data:
        if not Path(source).is_dir():
            check_form(source)


def check_update(spec: UpdateSpec) -> None:
    """Raise ConfigurationError where no step can be learned by it."""
    spec.learning.check()
    if spec.fresh > spec.ticks:
        raise ConfigurationError(
            f"update: fresh, {spec.fresh:,}, is more than ticks, {spec.ticks:,}: it would never begin"
        )


def experiment_of(
    told: ComparisonSpec, run: str, champion: ServedModel, challenger: ServedModel
) -> ExperimentDefinition:
    """A run's own, by what it was asked."""
    return ExperimentDefinition(
        version=1, name=f"run-{run}", kind="canary", salt=f"salt-of-{run}", champion=champion,
        challengers=(Challenger(ARM, challenger.model, challenger.version),), primary=told.primary,
        block=told.block, planned_blocks=told.planned_blocks, alpha=told.alpha, guardrails=told.guardrails,
        at_least=told.at_least, costs=told.costs, symbols=told.symbols, steps=told.steps,
    )  # fmt: skip


def check_comparison(told: ComparisonSpec) -> None:
    """Raise ConfigurationError where no experiment can be made of it."""
    try:
        check_definition(experiment_of(told, "of-none", ServedModel("model", 1), ServedModel("model", 2)))
        parse_span(told.most)
    except ConfigurationError as error:
        raise ConfigurationError(f"comparison: {error}") from None


def check_overrides(overrides: dict[str, tuple[str, ...]]) -> None:
    """Raise ConfigurationError where somebody answers for a gate that there is not."""
    known = gate_names()
    asked = {name for names in overrides.values() for name in names if not name.startswith(AGAINST_CHAMPION)}
    if unknown := sorted(asked - set(known)):
        raise ConfigurationError(f"overrides: no gate is called {', '.join(unknown)}: there are {', '.join(known)}")


def read(spec: Any, kind: type[T], name: str) -> T:
    """A run's spec. Raises ConfigurationError, which says where it is none."""
    try:
        # As strictly as it will be read again: what is kept is what was sent.
        return msgspec.convert(spec, kind)
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        said = safe_text(str(error))
        article = "an" if name[:1] in "aeiou" else "a"
        raise ConfigurationError(f"the spec of {article} {name} is none: {said}") from None


def train_request(spec: CycleSpec | TrialSpec, divisor: int = 1) -> TrainRequest:
    """What its training is asked: batches are `divisor` times smaller than they were asked."""
    told = spec.training
    made = TrainRequest(
        data=spec.data, bars=told.bars, horizon=told.horizon, limit=told.limit, seed=told.seed, epochs=told.epochs,
        folds=told.folds, teacher=told.teacher, fee_bps=told.fee_bps, slippage_bps=told.slippage_bps,
        half_spread_bps=told.half_spread_bps, groups=told.groups, tested=told.tested, precision=told.precision,
    )  # fmt: skip
    return replace(made, batch_size=max(8, told.batch_size // divisor))


def with_archive(told: dict[str, Any], kind: str, archive: Path | None) -> dict[str, Any]:
    """A spec that learns from the desk's own archive, unless it names another. Raises ConfigurationError."""
    if kind in LIVED and "archive" not in told:
        if archive is None:
            raise ConfigurationError(
                f"{kind}: no archive is named: give ULTRATHINK_ORCHESTRATOR_ARCHIVE, the folder that the data "
                "service writes, or `archive` in --spec FILE"
            )
        return {"archive": str(archive), **told}
    return told


def read_file(path: Path) -> Any:
    """A spec of a YAML or JSON file. Raises ConfigurationError."""
    try:
        root = compose(path.read_text(encoding="utf-8"))
        found = None if root is None else to_values(root)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is no text in UTF-8: save it as such") from None
    except YamlProblem as error:
        raise ConfigurationError(f"{path}, {error}") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path} holds no spec: expected fields and their values")
    return found

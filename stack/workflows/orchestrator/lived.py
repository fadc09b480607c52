"""Steps that learn from what the desk lived: which part of the log, whether it has changed, and a small step from
what decides it.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from gateway.settings import GatewaySettings
from stack.processes.settings import gateway_settings
from stack.servers.settings import load
from stack.workflows.asking import place_of_experiments
from stack.workflows.experiments.deciding import deciding_since
from stack.workflows.orchestrator.asked import UpdateSpec, read
from stack.workflows.orchestrator.asked_lived import CheckSpec
from trading.errors import ConfigurationError, SourceError
from trading.experiments.definition import ServedModel
from trading.history.archive import first_offset, read_head, read_offsets, show_offsets
from trainers.orchestrator.step import StepContext, StepRejected

if TYPE_CHECKING:
    from trainers.data.dataset import Dataset
    from trainers.online.networks import Networks
    from trainers.online.ripening import LivedSpan

#: How far a version has learned from a log: a tag of its versions in MLflow.
LEARNED = "learned_until"
MODELS = "models:/"
#: Names of a run's rows, whole or being built.
ROWS = re.compile(r"\.?(?P<run>[0-9a-f]{12})-[0-9a-f]{12}(\.[0-9a-f]{8}\.building)?")
#: What was not touched for so long belongs to nobody.
OLD_S = 2 * 86_400.0


def spec_of(context: StepContext) -> CheckSpec | UpdateSpec:
    """What the run was asked. Raises ConfigurationError."""
    kind = context.run.request.kind
    if kind == "check":
        return read(dict(context.spec), CheckSpec, kind)
    return read(dict(context.spec), UpdateSpec, kind)


# ---- which part of the log ------------------------------------------------------------------------------------


def collect(context: StepContext) -> dict[str, Any]:
    """Offsets, and the champion's versions: from here on the run is a function of them.

    Raises:
        ConfigurationError: nothing decides the desk, or what does was not trained here.
        SourceError: there is no archive.
        StepRejected: too little was lived since.
    """
    from trainers.registry import aliases

    spec, settings = spec_of(context), gateway_settings()
    archive = Path(spec.archive).expanduser().absolute()
    head = read_head(archive)
    if head is None:
        raise SourceError(f"{archive} holds no archive yet: `ultrathink data serve` writes one")
    serving, since_ns = serving_model(settings)
    models, place = pipeline_of(serving), place_of_experiments()
    aliases.connect(place[1])
    stop = {partition: one.next_offset for partition, one in head.partitions.items()}
    told = {
        "archive": str(archive), "topic_id": head.topic_id, "champion": str(serving), "models": models,
        "horizon_ns": horizon_of(models), "stop": show_offsets(stop),
    }  # fmt: skip
    if isinstance(spec, CheckSpec):
        return told | looked_at(archive, spec, since_ns, stop)
    if spec.champion not in {"", str(serving)}:
        raise StepRejected(f"{spec.champion} was looked at, and {serving} decides by now")
    learned, start = learned_until(models, head.topic_id), last_ticks(archive, stop, spec.ticks)
    fresh = sum(max(0, end - max(learned.get(p, 0), start.get(p, 0))) for p, end in stop.items())
    if fresh < spec.fresh:
        raise StepRejected(
            f"{fresh:,} ticks have come that {serving} has not learned from, and {spec.fresh:,} are the fewest"
        )
    span = f"{archive}, offsets {show_offsets(start) or 'from the first on'} to {show_offsets(stop)}"
    return told | {"start": show_offsets(start), "summary": f"{serving} is to learn from {span}"}


def serving_model(settings: GatewaySettings) -> tuple[ServedModel, int]:
    """What decides the desk, and since when. Raises ConfigurationError where nothing does."""
    found = deciding_since(settings)
    if found is None:
        raise ConfigurationError(
            "nothing decides the desk, so there is no champion to learn from: start it, or submit a cycle"
        )
    return found


def pipeline_of(serving: ServedModel) -> dict[str, str]:
    """The versions in MLflow that a served one was made of, by model. Raises ConfigurationError."""
    from exporters.errors import ExportError
    from trainers.registry.promotion import PIPELINE

    try:
        steps = place_of_experiments()[0].repository.verified_lineage(serving.model, serving.version).steps
    except ExportError as error:
        raise ConfigurationError(f"{serving} cannot be learned from: {error}") from error
    found = {}
    for told in steps.values():
        name, _, version = told.removeprefix(MODELS).rpartition("/")
        if told.startswith(MODELS) and version.isdigit():
            found[name] = version
    if set(found) != set(PIPELINE):
        raise ConfigurationError(
            f"{serving} was made of {', '.join(steps.values()) or 'one file'}: only a graph of registered versions "
            f"of {', '.join(PIPELINE)} can be learned from"
        )
    return {name: found[name] for name in PIPELINE}


def horizon_of(models: Mapping[str, str]) -> int:
    """That the labels of its training looked ahead, in ns. Raises ConfigurationError where nobody knows."""
    from trainers.registry import champions

    name, version = next(iter(models.items()))
    told = champions.parameter(champions.known(name, version), "horizon_ns")
    if not told.isdigit():
        raise ConfigurationError(f"{name} {version} does not say how far its labels look ahead")
    return int(told)


def learned_until(models: Mapping[str, str], topic_id: str) -> dict[int, int]:
    """Offsets of this log before which the versions have learned; none of what was never updated from it."""
    from trainers.registry import champions

    name, version = next(iter(models.items()))
    told = champions.known(name, version).tags.get(LEARNED, "")
    whose, _, offsets = told.partition("@")
    return read_offsets(told, LEARNED, offsets) if whose == topic_id else {}


def last_ticks(archive: Path, stop: Mapping[int, int], count: int) -> dict[int, int]:
    """Where the newest ticks begin, in all partitions at one time of the broker's; nowhere where those are all.

    Raises SourceError.
    """
    from trainers.data.archived_columns import newest_since, offsets_since

    at_ns = newest_since(archive, stop, count)
    if at_ns is None:
        # All that is kept: of a log whose beginning is not, it begins where the archive does.
        begins = {p: first_offset(archive, p) for p in stop}
        return {p: begin for p, begin in begins.items() if begin}
    return {p: min(begin, stop[p]) for p, begin in offsets_since(archive, at_ns).items() if p in stop and begin > 0}


def looked_at(archive: Path, spec: CheckSpec, since_ns: int, stop: Mapping[int, int]) -> dict[str, Any]:
    """Of a check: what shows what is usual, and what is looked at. Raises SourceError."""
    from trainers.data.archived_columns import offsets_since, reached_at

    born = {p: min(begin, stop[p]) for p, begin in offsets_since(archive, since_ns).items() if p in stop}
    total = sum(stop[p] - begin for p, begin in born.items())
    known_ns = reached_at(archive, born, stop, spec.reference)
    if known_ns is None:
        return {
            "summary": f"nothing can be said yet: the champion has decided about {total:,} archived ticks, and "
            f"{spec.reference:,} are to show what is usual"
        }
    known = {p: min(begin, stop[p]) for p, begin in offsets_since(archive, known_ns).items() if p in stop}
    recent = last_ticks(archive, stop, spec.ticks)
    newest = {p: max(known[p], recent.get(p, 0)) for p in known}
    return {
        "reference": [show_offsets(born), show_offsets(known)], "start": show_offsets(newest),
        "summary": f"{total:,} ticks since it began to decide; the first {spec.reference:,} show what is usual",
    }  # fmt: skip


def span_of(told: Mapping[str, Any], start: str, stop: str) -> LivedSpan:
    """Offsets of the archive. Raises ConfigurationError where it is of another log by now."""
    from trainers.online.ripening import LivedSpan

    archive = Path(told["archive"])
    head = read_head(archive)
    if head is None or head.topic_id != told["topic_id"]:
        raise ConfigurationError(f"{archive} is of another log than it was when this run began: submit another")
    return LivedSpan(archive, read_offsets(start, "from", start), read_offsets(stop, "until", stop))


def place() -> Path:
    """Where runs keep rows while they need them, and nobody keeps anything else."""
    return load().absolute_home / "lived"


def forget(context: StepContext) -> None:
    """Delete a run's rows, and what a killed one left there long ago."""
    for folder in place().glob("*"):
        whose = ROWS.fullmatch(folder.name)
        if whose is not None and (whose["run"] == context.run.id or is_old(folder)):
            shutil.rmtree(folder, ignore_errors=True)


def is_old(folder: Path) -> bool:
    """Whether nobody works with it any more."""
    try:
        return time.time() - folder.stat().st_mtime > OLD_S
    except OSError:
        return False


def dataset(context: StepContext, told: Mapping[str, Any], span: LivedSpan) -> Path:
    """The folder of a span's ripe rows, named by what they are made of; built where it is not there yet."""
    from trainers.data import manifest
    from trainers.online.ripening import ripen

    named = msgspec.json.encode((span.spec, told["topic_id"], told["horizon_ns"]))
    folder = place() / f"{context.run.id}-{hashlib.sha256(named).hexdigest()[:12]}"
    try:
        manifest.read(folder)
    except ConfigurationError:
        # Nothing reads what is none.
        shutil.rmtree(folder, ignore_errors=True)
        ripen(span, told["horizon_ns"], folder, context.progress)
    return folder


# ---- whether it has changed ------------------------------------------------------------------------------------


def assess(context: StepContext) -> dict[str, Any]:
    """Whether features, regimes, signals or what is earned are still what they were. Raises ConfigurationError."""
    from trainers.data.build import TooFewRows
    from trainers.memory_budget import be_deterministic
    from trainers.online import drift
    from trainers.online.worth import Observed, observe_rows

    spec, told = spec_of(context), context.output("collect")
    assert isinstance(spec, CheckSpec)  # noqa: S101 - of its kind
    if "reference" not in told:
        return {"alarms": [], "kinds": [], "rows": 0, "champion": told["champion"], "summary": told["summary"]}
    networks, costs = opened(told["models"]), spec.costs
    be_deterministic(0)
    observed: list[Observed] = []
    settings = spec.drift
    try:
        for begin, end in (told["reference"], (told["start"], told["stop"])):
            data = rows_of(dataset(context, told, span_of(told, begin, end)))
            rows = np.flatnonzero(data.labels.valid)
            context.progress(f"ask about {len(rows):,} rows")
            observed.append(observe_rows(networks, data, rows, costs))
        alarms = drift.watch(observed[0], observed[1], settings)
        size = drift.block_size(observed[0], settings)
    except (drift.TooLittle, TooFewRows) as error:
        said = f"nothing can be said yet: {error}"
        return {"alarms": [], "kinds": [], "rows": 0, "champion": told["champion"], "summary": said}
    finally:
        forget(context)
    counted = f"{len(observed[1]):,} ripe rows against {len(observed[0]):,}, in blocks of {size:,}"
    return {
        "alarms": msgspec.to_builtins(alarms), "kinds": drift.kinds_of(alarms), "rows": len(observed[1]),
        "block_rows": size, "champion": told["champion"],
        "summary": "; ".join(one.sentence for one in alarms[:4]) + f" ({counted})" if alarms else
        f"nothing has changed: {counted}",
    }  # fmt: skip


def opened(models: Mapping[str, str]) -> Networks:
    """The champion's networks. Raises ConfigurationError, ServiceUnavailable."""
    from trainers.registry import aliases
    from trainers.registry.pipeline import open_pipeline

    aliases.connect(place_of_experiments()[1])
    return open_pipeline(models)


def rows_of(folder: Path) -> Dataset:
    """A dataset, opened. Raises ConfigurationError."""
    from trainers.data.dataset import open_dataset

    return open_dataset(folder)

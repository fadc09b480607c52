"""Steps that make a challenger: what is learned from, the dataset, the training, its gates, the exported
version.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from gateway.settings import GatewaySettings
from stack.processes.settings import gateway_settings
from stack.servers.settings import load
from stack.workflows.asking import place_of_experiments
from stack.workflows.orchestrator.asked import RUN, CycleSpec, UpdateSpec, read, train_request
from stack.workflows.training.train import TrainReport, dataset_of, train
from trading.errors import ConfigurationError, SourceError
from trading.history.archive import read_head, show_offsets
from trainers.orchestrator.step import StepContext, StepRejected

FUSED = "_fused"


def spec_of(context: StepContext) -> CycleSpec:
    """What the run was asked. Raises ConfigurationError."""
    return read(dict(context.spec), CycleSpec, context.run.request.kind)


def collect(context: StepContext) -> dict[str, Any]:
    """What is learned from, named so that it is the same whenever it is read: an archive ends where it ends now."""
    if context.run.request.kind in {"cycle", "update"}:
        refuse_ensemble(gateway_settings())
    if context.run.request.kind in {"check", "update"}:
        from stack.workflows.orchestrator import lived

        return lived.collect(context)
    spec = spec_of(context)
    data, facts = [], {}
    for source in spec.data:
        context.progress(f"look at {source}")
        pinned = pin(source)
        data.append(pinned)
        if (file := file_of(source)) is not None:
            facts[source] = digest(file)
    return {"data": data, "files": facts, "summary": f"learns from {', '.join(data)}"}


def refuse_ensemble(settings: GatewaySettings) -> None:
    """Raise ConfigurationError where the desk asks what no copy can be loaded of, beside what is served."""
    if not settings.model_name.endswith(FUSED):
        raise ConfigurationError(
            f"the desk is decided by {settings.model_name}, and a challenger is one graph: start it with "
            f"ULTRATHINK_GATEWAY_MODEL_NAME={settings.model_name}{FUSED}, released with `export pipeline --fuse`"
        )


def pin(source: str) -> str:
    """A SOURCE whose ticks stay the same: of an archive those that are there now. Raises SourceError."""
    kind, _, rest = source.partition(":")
    path, _, options = rest.partition("?")
    if kind != "archive" or "until=" in options:
        return source
    head = read_head(Path(path).expanduser())
    if head is None:
        raise SourceError(
            f"{Path(path).expanduser().absolute()} holds no archive yet: `ultrathink data serve` writes one"
        )
    until = show_offsets({partition: one.next_offset for partition, one in head.partitions.items()})
    return f"{kind}:{path}?{options + '&' if options else ''}until={until}"


def file_of(source: str) -> Path | None:
    """The file of a SOURCE that is one; None of others."""
    path = Path(source.partition(":")[2].partition("?")[0]).expanduser()
    return path if path.is_file() else None


def digest(file: Path) -> str:
    """Of a file's bytes, SHA-256 in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def build(context: StepContext) -> dict[str, Any]:
    """The dataset, in a folder that is named by what it is made of."""
    spec = collected(context)
    for source, sha256 in (context.output("collect") or {}).get("files", {}).items():
        if (file := file_of(source)) is None or digest(file) != sha256:
            raise ConfigurationError(f"{source} is not what it was when this run began: submit another")
    request, home = train_request(spec), load().absolute_home
    # What was there before is somebody else's, too.
    before = {path.name for path in (home / "datasets").glob("*")}
    folder = dataset_of(request, home, context.progress)
    made = folder.parent == home / "datasets" and folder.name not in before
    from trainers.data import manifest

    found = manifest.read(folder)
    summary = f"{found.rows:,} rows of {found.ticks:,} ticks, {found.labelled:,} labelled"
    return {
        "dataset": str(folder), "made": made, "dataset_hash": found.dataset_hash, "rows": found.rows,
        "summary": summary,
    }  # fmt: skip


def collected(context: StepContext) -> CycleSpec:
    """The spec, of what was there when the run began."""
    spec = spec_of(context)
    told = context.output("collect")
    return spec if told is None else msgspec.structs.replace(spec, data=tuple(told["data"]))


def train_models(context: StepContext) -> dict[str, Any]:
    """The training: three registered challengers; one that was killed goes on where it was."""
    spec, built = collected(context), context.output("build")
    asked = msgspec.structs.replace(spec, data=(built["dataset"],))
    request = train_request(asked, context.run.divisor)
    # A dataset's bars and horizon were chosen when it was built.
    mlflow_uri = place_of_experiments()[1]
    request = msgspec.structs.replace(request, bars="ticks", horizon=None, limit=None, mlflow_uri=mlflow_uri)
    report = train(request, context.progress, tags={RUN: context.run.id})
    return {
        "run_id": report.run_id, "verdict": report.verdict, "edge": report.edge, "score": score_of(report),
        "models": {one.name: one.version for one in report.models}, "sheet": report.sheet,
        "out_of_sample_from_ns": report.out_of_sample_from_ns, "summary": report.verdict,
        "mlflow": f"{mlflow_uri}/#/experiments/search?searchFilter=run_id%3D%27{report.run_id}%27",
    }  # fmt: skip


def score_of(report: TrainReport) -> float | None:
    """By which trainings are compared: the meta-controller's t-statistic after costs, out of sample."""
    found = {one.name: one.headline for one in report.models}.get("meta_controller", {})
    return found.get("t_statistic")


def gates(context: StepContext) -> dict[str, Any]:
    """Whether the evidence is good enough to compare the models on live ticks. Raises StepRejected where it is
    not.
    """
    from stack.workflows.training.promote import evidence_of
    from trainers.registry import aliases, champions, promotion

    overrides, trained = overrides_of(context), trained_by(context)
    aliases.connect(place_of_experiments()[1])
    chosen = [candidate_of(name, version) for name, version in trained["models"].items()]
    standing = [one for name in promotion.PIPELINE if (one := champions.candidate(name, aliases.CHAMPION))]
    found = promotion.gates(
        evidence_of(chosen), evidence_of(standing), compared_live=context.run.request.kind != "training"
    )
    names = [name for gates_of_one in overrides.values() for name in gates_of_one]
    unknown = sorted(set(names) - {gate.name for gate in found})
    if unknown:
        known = ", ".join(dict.fromkeys(gate.name for gate in found))
        raise ConfigurationError(f"overrides: no gate is called {', '.join(unknown)}: there are {known}")
    told = promotion.overridden(found, names)
    stopped = promotion.refused(told)
    if stopped:
        reasons = "; ".join(f"{gate.name}: {gate.measured}, wanted {gate.wanted}" for gate in stopped)
        raise StepRejected(f"{len(stopped)} of {len(told)} gates do not pass: {reasons}")
    answered = [gate.name for gate in told if gate.overridden]
    by = f", {', '.join(overrides)} answering for {', '.join(answered)}" if answered else ""
    return {"gates": msgspec.to_builtins(told), "summary": f"{len(told)} gates pass{by}"}


def overrides_of(context: StepContext) -> dict[str, tuple[str, ...]]:
    """Gates that somebody answers for: his name, and the gates' names. Raises ConfigurationError."""
    return shown_spec(context).overrides


def shown_spec(context: StepContext) -> CycleSpec | UpdateSpec:
    """Of a run whose model is compared and may be promoted. Raises ConfigurationError."""
    kind = context.run.request.kind
    return read(dict(context.spec), UpdateSpec, kind) if kind == "update" else spec_of(context)


def trained_by(context: StepContext) -> dict[str, Any]:
    """What the step that made the run's models gave."""
    found: dict[str, Any] = context.output("train") or context.output("update")
    return found


def candidate_of(name: str, version: str) -> Any:
    """A version that the training has registered. Raises ConfigurationError where somebody took it away."""
    from trainers.registry import champions

    found = champions.candidate(name, str(version))
    if found is None:
        raise ConfigurationError(f"MLflow has no version {version} of {name} any more")
    return found


def export(context: StepContext) -> dict[str, Any]:
    """The models as one graph, a version of what decides the desk; nothing serves it yet."""
    from exporters import profiles
    from exporters.export import export_pipeline
    from exporters.options import Options

    (place, mlflow_uri), trained = place_of_experiments(), trained_by(context)
    model, repository = gateway_settings().model_name, place.repository
    version = exported_before(repository, model, trained["models"])
    if version is None:
        context.check()
        options = Options(mlflow_uri, profiles.find(profiles.DEFAULT_CONTAINER), place.gpu)
        published = export_pipeline(
            model.removesuffix(FUSED), options, repository, context.progress, fuse=True,
            references={name: f"models:/{name}/{version}" for name, version in trained["models"].items()},
        )  # fmt: skip
        version = next(one.version for one in published if one.name == model)
    lineage = repository.verified_lineage(model, version)
    return {"model": model, "version": version, "parity_max_abs": lineage.parity_max_abs,
            "summary": f"{model} {version}, parity {lineage.parity_max_abs:.1e} in its file"}  # fmt: skip


def exported_before(repository: Any, model: str, versions: dict[str, str]) -> int | None:
    """The version of an earlier attempt, which was made of these very models; None where there is none."""
    from exporters.errors import ExportError

    wanted = {f"models:/{name}/{version}" for name, version in versions.items()}
    for number in reversed(repository.versions(model)):
        try:
            lineage = repository.verified_lineage(model, number)
        except ExportError:
            continue
        if set(lineage.steps.values()) == wanted:
            return int(number)
    return None


def verify(context: StepContext) -> dict[str, Any]:
    """The exported version against its source, row by row, in its file and as Triton answers. Raises
    StepRejected.
    """
    from contextlib import closing

    from exporters.parity.decisions import in_words
    from exporters.release.triton_client import TritonServer
    from exporters.verify import verify as compare

    (place, mlflow_uri), exported = place_of_experiments(), context.output("export")
    with closing(TritonServer(place.address)) as triton:
        found = compare(
            exported["model"], exported["version"], place.repository, triton, mlflow_uri, context.progress
        )
    summary = (
        f"{found.rows:,} rows differ by {found.max_abs_diff:.1e} at most, "
        f"{in_words(found.task, found.flip_rate, found.rank_correlation)}"
    )
    if not found.passed:
        raise StepRejected(f"as served it is not what was trained: {summary}")
    return {
        "max_abs_diff": found.max_abs_diff,
        "flip_rate": found.flip_rate,
        "rows": found.rows,
        "summary": summary,
    }

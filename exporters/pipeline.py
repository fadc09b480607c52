"""Export all: fetch, convert, prove, publish, load, prove again as served."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import onnx as onnx_package
import onnxruntime
import torch
from msgspec import Struct

from exporters import onnx, parity, registry, torchscript
from exporters.profiles import Profile
from exporters.registry import SourceModel
from exporters.repository import ModelRepository
from exporters.serving import TritonServer
from gateway.domain.signature import MODELS, TRADING_DECISION, ModelSignature

STEPS = TRADING_DECISION.steps


class Exported(Struct, frozen=True):
    """A published version. Parity is the largest absolute difference from the source, as served."""

    name: str
    version: int
    run_id: str
    format: str
    parity_offline: float
    parity_max_abs_diff: float


class Converted(Struct, frozen=True):
    """A model in its staging folder, proven equal to its source there."""

    source: SourceModel
    folder: Path
    parity: float


def export_all(
    mlflow_uri: str,
    triton: TritonServer,
    repository: ModelRepository,
    profile: Profile,
    progress: Callable[[str], None],
    alias: str = "challenger",
) -> list[Exported]:
    """Bring every model from the registry to the server, the ensemble last.

    All models are converted and proven before any is published, and the ensemble, which is what the
    gateway asks, changes only when its new steps have answered as their sources do.

    Raises:
        ExportError, ServiceUnavailable: says what failed; the ensemble is as it was, unless its own
            served answers were what failed.
    """
    client = registry.connect(mlflow_uri)
    with ExitStack() as stack:
        downloads = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sources = {}
        for name in STEPS:
            progress(f"{name}: fetch {name}@{alias}")
            (downloads / name).mkdir()
            sources[name] = registry.fetch(client, MODELS[name], alias, downloads / name)
        converted = [
            convert(source, stack.enter_context(repository.stage(name)), profile, progress)
            for name, source in sources.items()
        ]
        exported = {c.source.signature.name: publish(c, triton, repository, profile, progress) for c in converted}
    exported[TRADING_DECISION.name] = export_ensemble(sources, exported, triton, repository, progress)
    return list(exported.values())


def convert(source: SourceModel, folder: Path, profile: Profile, progress: Callable[[str], None]) -> Converted:
    """Write the model into a staging folder and compare it with its source, in this process."""
    signature = source.signature
    path = folder / signature.file_name
    progress(f"{signature.name}: convert to {signature.file_name}")
    if signature.backend == "onnxruntime":
        onnx.export(source, path, profile)
        run = parity.run_onnx(path)
    else:
        torchscript.export(source, path)
        run = parity.run_torchscript(path)
    difference = parity.max_abs_difference(signature, parity.run_module(source.module), run, "in its file")
    return Converted(source, folder, difference)


def publish(
    converted: Converted,
    triton: TritonServer,
    repository: ModelRepository,
    profile: Profile,
    progress: Callable[[str], None],
) -> Exported:
    """Publish a converted model, load it, and compare it as served."""
    source, signature = converted.source, converted.source.signature
    repository.write_configs(signature, {})
    recorded = lineage(source, profile, converted.parity)
    version = repository.publish(signature.name, converted.folder, recorded)
    progress(f"{signature.name}: load version {version}")
    triton.load(signature, version)
    served = parity.max_abs_difference(
        signature, parity.run_module(source.module), triton.run(signature, version), "as served"
    )
    kind = "ONNX" if signature.backend == "onnxruntime" else "TorchScript"
    return Exported(signature.name, version, source.run_id, kind, converted.parity, served)


def export_ensemble(
    sources: dict[str, SourceModel],
    steps: dict[str, Exported],
    triton: TritonServer,
    repository: ModelRepository,
    progress: Callable[[str], None],
) -> Exported:
    """Publish the ensemble with its steps pinned, and compare it with the composed sources."""
    signature = TRADING_DECISION
    pinned = {name: steps[name].version for name in STEPS}
    with repository.stage(signature.name) as folder:
        repository.write_configs(signature, pinned)
        runs = {name: steps[name].run_id for name in STEPS}
        version = repository.publish(signature.name, folder, {"steps": pinned, "run_ids": runs, "time": now()})
    progress(f"{signature.name}: load version {version}")
    triton.load(signature, version)
    composed = parity.run_pipeline({name: source.module for name, source in sources.items()})
    served = parity.max_abs_difference(signature, composed, triton.run(signature, version), "as served")
    joined = ",".join(steps[name].run_id for name in STEPS)
    return Exported(signature.name, version, joined, "ensemble", 0.0, served)


def lineage(source: SourceModel, profile: Profile, offline: float) -> dict[str, object]:
    """Where a version comes from, in words that outlive the registry."""
    return {
        "model": f"models:/{source.signature.name}/{source.version}",
        "run_id": source.run_id,
        "data_hash": source.data_hash,
        "git_commit": source.git_commit,
        "feature_version": source.signature.feature_version,
        "signature": describe(source.signature),
        "target": profile.name,
        "parity_offline_max_abs_diff": offline,
        "tools": {
            "torch": torch.__version__,
            "onnx": onnx_package.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        "user": os.environ.get("USER", "unknown"),
        "time": now(),
    }


def describe(signature: ModelSignature) -> dict[str, list[str]]:
    """The contract as text."""
    return {
        "inputs": [f"{t.name} {t.dtype} {list(t.dims)}" for t in signature.inputs],
        "outputs": [f"{t.name} {t.dtype} {list(t.dims)}" for t in signature.outputs],
    }


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")

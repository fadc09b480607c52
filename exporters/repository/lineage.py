"""Where a version comes from, in words that outlive the registry."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping

from msgspec import Struct

from trading.models.signature import ModelSignature

TOOLS = (
    "torch",
    "onnx",
    "onnxruntime-gpu",
    "skl2onnx",
    "lightgbm",
    "scikit-learn",
    "xgboost-cpu",
    "mlflow",
    "numpy",
    "ultrathink-pilot",
)


class Lineage(Struct, frozen=True):
    """lineage.json.

    Attributes:
        contract: tensors, backend, largest batch, feature version.
        model: "models:/NAME/3", "runs:/..." or "file:..."; of a pipeline, its ensemble's name.
        run_ids: MLflow runs, by model.
        source_sha256: hash of the artefact that was converted.
        precision: "fp32", "fp16" or "int8" of the weights, or "fp64" of rows and arithmetic.
        int8: what eight bits cost and save, as `exporters.quantization.Int8` names it; empty for others.
        target: the container that the file was checked against.
        parity_max_abs, parity_flip_rate: of the exported file against its source, over all probes.
        parity_rank: the lowest rank correlation of its answers; None where nothing was ranked.
        parity_relative, parity_limit: the difference on the scale that it was judged on, and what was allowed.
        steps: of an ensemble or a fused pipeline, the version or URI of each.
        tools: versions of what did it.
        data_hash, git_commit: of the training.
        weights_bytes, activation_bytes: of one instance, the latter at the largest batch.
        columns: of the table that it reads, in their order; empty where it reads none, or one without names.
        trusted: whether --trust was needed to open the artefact.
        files: sha256 by file name.
    """

    contract: ModelSignature
    model: str
    run_ids: Mapping[str, str]
    source_sha256: str
    precision: str
    target: str
    parity_max_abs: float
    parity_flip_rate: float
    steps: Mapping[str, str] = {}
    classes: tuple[str, ...] = ()
    tools: Mapping[str, str] = {}
    data_hash: str = "unknown"
    git_commit: str = "unknown"
    trusted: bool = False
    weights_bytes: int = 0
    activation_bytes: int = 0
    version: int = 0
    int8: Mapping[str, float] = {}
    files: Mapping[str, str] = {}
    time: str = ""
    user: str = ""
    parity_relative: float = 0.0
    parity_limit: float = 0.0
    parity_rank: float | None = None
    columns: tuple[str, ...] = ()


def tool_versions() -> dict[str, str]:
    """What is installed of TOOLS."""
    found = {}
    for name in TOOLS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found

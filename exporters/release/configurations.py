"""Which configuration a model gets while versions change, and after whose contract it is written."""

from __future__ import annotations

import contextlib

import msgspec
from msgspec.structs import replace

from exporters.errors import ExportError
from exporters.formats.config_pbtxt import Serving
from exporters.formats.onnx import text
from exporters.release.journal import ReleaseChange
from exporters.repository.repository import ModelRepository
from trading.models.signature import ModelSignature


def widened(repository: ModelRepository, change: ReleaseChange) -> Serving:
    """Old and new versions together, in the new configuration.

    One configuration governs all versions: where the old ones have another contract (backend, dims, largest
    batch), the new ones stand alone, and Triton changes over when they are loaded.
    """
    versions = {*change.before.versions, *change.after.versions}
    if len({contract_of(repository, change.name, v) for v in versions}) > 1:
        return change.after
    return replace(change.after, versions=tuple(sorted(versions)))


def contract_of(repository: ModelRepository, name: str, version: int) -> bytes:
    """A version's contract, to be compared."""
    return msgspec.json.encode(repository.lineage(name, version).contract)


def alone(repository: ModelRepository, previous: int | None, new: ModelSignature, version: int) -> str:
    """As `why_alone`, of a version before that may be gone; "" of an ensemble, whose steps are kept."""
    if previous is None or new.backend == "ensemble":
        return ""
    try:
        return why_alone(repository.lineage(new.name, previous).contract, previous, new, version)
    except ExportError:
        return f"version {previous} cannot be read"


def why_alone(old: ModelSignature, previous: int, new: ModelSignature, version: int) -> str:
    """Why the version before is not kept loaded beside a new one, in words; "" where it is."""
    if previous == version:
        return ""
    if previous > version:
        return f"version {previous} is not kept: requests without a version go to the highest that is loaded"
    for what, ours, theirs in (
        ("inputs are", text(new.inputs), text(old.inputs)),
        ("outputs are", text(new.outputs), text(old.outputs)),
        ("largest batch is", new.max_batch_size, old.max_batch_size),
        ("backend is", new.backend, old.backend),
        ("feature version is", new.feature_version, old.feature_version),
    ):
        if ours != theirs:
            return f"its {what} {ours}, and {theirs} in version {previous}"
    return ""


def contract_for(repository: ModelRepository, change: ReleaseChange, serving: Serving) -> ModelSignature:
    """The signature that a configuration is written from: of the version that is to answer.

    Where none is to, of any version that is still there.
    """
    there = repository.versions(change.name)
    wanted = [*sorted(serving.versions, reverse=True), *sorted(change.after.versions, reverse=True), *there[::-1]]
    for version in wanted:
        with contextlib.suppress(ExportError):
            return repository.lineage(change.name, version).contract
    raise ExportError(f"{change.name} has no version left in {repository.root}: export it again")

"""Which configuration a model gets while versions change, and after whose contract it is written."""

from __future__ import annotations

import contextlib

import msgspec
from msgspec.structs import replace

from exporters.errors import ExportError
from exporters.formats.config_pbtxt import Serving
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

"""Versions on disk: what each is to the releases, which must stay, and pruning."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from exporters.errors import ExportError
from exporters.release.journal import Journal
from exporters.repository.lineage import Lineage
from exporters.repository.repository import ModelRepository


class VersionRow(Struct, frozen=True):
    """A version in `export list`."""

    model: str
    version: int
    state: str
    serving: bool
    in_triton: str
    source: str
    precision: str
    size: int
    time: str


def last_good(journal: Journal, repository: ModelRepository, name: str) -> int | None:
    """The version that was served before the one that is, and is still there.

    What was gone back from is no way back: after a rollback it is the version before that which serves now.
    """
    released, there = repository.serving(name).released, set(repository.versions(name))
    earlier = [v for v in way_back(journal, name) if v != released and v in there]
    return earlier[-1] if earlier else None


def way_back(journal: Journal, name: str) -> list[int]:
    """Versions that were served one after the other, without those that were gone back from; the newest last."""
    found: list[int] = []
    for one in journal.transactions(name):
        version = one.changes[name].after.released
        if one.last.step != "done" or version is None:
            continue
        if one.begun.action == "rollback" and version in found:
            while found[-1] != version:
                found.pop()
        elif not found or found[-1] != version:
            found.append(version)
    return found


def served_before(journal: Journal, name: str) -> list[int]:
    """Every version that was served, in the order in which they were."""
    ends = [t.changes[name].after.released for t in journal.transactions(name) if t.last.step == "done"]
    return [version for version in ends if version is not None]


def to_roll_back_to(journal: Journal, repository: ModelRepository, name: str, wanted: int | None) -> int:
    """The version before, or the one wanted. Raises ExportError where it was never served, or is already."""
    if not repository.versions(name):
        known = ", ".join(repository.names()) or "none"
        raise ExportError(f"there is no model {name!r} in {repository.root}; there is {known}")
    released = repository.serving(name).released
    target = wanted if wanted is not None else last_good(journal, repository, name)
    if target is None:
        serves = "nothing" if released is None else f"version {released}, the first that was released"
        raise ExportError(f"{name} serves {serves}: there is nothing to go back to")
    if target == released:
        raise ExportError(f"{name} already serves version {target}")
    if target in repository.versions(name) and target not in served_before(journal, name):
        raise ExportError(
            f"{name} {target} was never released: `ultrathink export release {name} {target}` asks first whether "
            "it answers as its source"
        )
    return target


def step_of(repository: ModelRepository, pipeline: str, version: int, name: str) -> int:
    """Which version of a model a pipeline pins; 0 for none. Raises ExportError where that cannot be known."""
    try:
        pinned = repository.lineage(pipeline, version).steps.get(name, "")
    except ExportError:
        if repository.serving(pipeline).pins:
            raise
        # It is no pipeline.
        return 0
    return int(pinned) if pinned.isdigit() else 0


def protected(repository: ModelRepository, name: str) -> dict[int, str]:
    """Versions that must stay, and why: served, pinned, or the way back."""
    journal = Journal(repository.journal)
    found: dict[int, str] = {}
    good = last_good(journal, repository, name)
    if good is not None:
        found[good] = "last good"
    for pipeline in repository.names():
        back = last_good(journal, repository, pipeline)
        if back is not None and pipeline != name and (pinned := step_of(repository, pipeline, back, name)):
            found[pinned] = f"pinned by {pipeline} {back}, its last good"
    for transaction in journal.transactions(name):
        if transaction.open:
            change = transaction.changes[name]
            found.update(
                dict.fromkeys((*change.before.versions, *change.after.versions), "in an interrupted release")
            )
    for step, versions in repository.pins().items():
        if step == name:
            found.update(dict.fromkeys(versions, "pinned"))
    serving = repository.serving(name)
    found.update(dict.fromkeys(serving.versions, "loaded"))
    if serving.released is not None:
        found[serving.released] = "served"
    return found


def rows(
    repository: ModelRepository, index: Mapping[tuple[str, int], str] | None, name: str = ""
) -> list[VersionRow]:
    """Every version on disk; `index` is Triton's states, or None where it was not asked."""
    found = []
    for model in [name] if name else repository.names():
        kept, released = protected(repository, model), repository.serving(model).released
        for version in repository.versions(model):
            try:
                lineage: Lineage | None = repository.lineage(model, version)
            except ExportError:
                lineage = None
            state = kept.get(version, "published") if lineage else "foreign"
            seen = "not asked" if index is None else index.get((model, version), "not loaded")
            found.append(
                VersionRow(
                    model,
                    version,
                    state,
                    version == released,
                    seen.lower(),
                    lineage.model if lineage else "unknown: not published by us",
                    lineage.precision if lineage else "",
                    repository.size(model, version),
                    lineage.time if lineage else "",
                )
            )
    return found


def prune(repository: ModelRepository, name: str, keep: int, *, dry_run: bool = False) -> list[tuple[int, int]]:
    """Delete all but the newest `keep` versions and those that must stay; returns versions and sizes.

    Folders that somebody else put there are left alone.
    """
    with repository.lock(name):
        repository.clear_staging(name)
        kept = set(protected(repository, name))
        ours = [v for v in repository.versions(name) if (repository.folder(name, v) / "lineage.json").is_file()]
        newest = set(ours[-keep:]) if keep else set()
        doomed = [v for v in ours if v not in kept | newest]
        if dry_run:
            return [(v, repository.size(name, v)) for v in doomed]
        return [(v, repository.remove(name, v)) for v in doomed]

"""What must hold before a release changes anything: whose folder the server reads, and what was before."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping

from exporters.errors import ExportError
from exporters.profiles import Gpu
from exporters.release.configurations import widened
from exporters.release.journal import Journal, ReleaseChange, Transaction
from exporters.release.triton_servers import Tritons
from exporters.repository.repository import ModelRepository
from exporters.target import memory


def check_folder(repository: ModelRepository, triton: Tritons) -> None:
    """Prove that each server reads this repository: it sees a folder that is nowhere else. Raises ExportError."""
    with repository.nonce() as nonce:
        blind = [f"{one.kind} at {one.address}" for one in triton.each() if not one.sees(nonce)]
    if blind:
        raise ExportError(
            f"{', '.join(blind)} does not serve from {repository.root}: it does not see a folder that "
            "was made there. Name the one that it serves with --repository; nothing was changed"
        )


def check_served(repository: ModelRepository, triton: Tritons, changes: Mapping[str, ReleaseChange]) -> None:
    """Raise ExportError where a server serves what this repository does not say that it serves."""
    for one, (name, change) in itertools.product(triton.each(), changes.items()):
        served = one.ready(name)
        if served and not change.before.versions:
            raise ExportError(
                f"{one.kind} at {one.address} serves {name} {', '.join(map(str, sorted(served)))}, and "
                f"{repository.root / name / 'config.pbtxt'} does not say so: unload it, or release it from "
                "where it came; nothing was changed"
            )


def check_loaded(triton: Tritons, name: str, version: int) -> None:
    """Raise ExportError where a server has loaded a model, but not this version of it."""
    without = [f"{one.kind} at {one.address}" for one in triton.each() if version not in one.ready(name)]
    if without:
        raise ExportError(
            f"{', '.join(without)} loaded {name}, but not version {version}: is --repository the folder "
            "that this server serves?"
        )


def superseded(repository: ModelRepository, journal: Journal, transaction: Transaction) -> str:
    """Why a transaction's `before` is no longer what was before; "" where it still is.

    It could not be settled while somebody held one of its models, and others were released meanwhile.
    """
    all_of_them = journal.transactions()
    later = all_of_them[[t.begun.id for t in all_of_them].index(transaction.begun.id) + 1 :]
    for other in later:
        shared = sorted(set(other.changes) & set(transaction.changes))
        if shared and other.last.step in {"flipped", "done"}:
            return f"{other.begun.action} {other.begun.model} {other.begun.version} changed {shared[0]} since"
    for name, change in transaction.changes.items():
        possible = [change.before, change.after]
        with contextlib.suppress(ExportError):
            possible.append(widened(repository, change))
        if repository.serving(name) not in possible:
            return f"{name} was configured by somebody else since"
    return ""


def check_memory(repository: ModelRepository, gpu: Gpu, changes: Mapping[str, ReleaseChange]) -> None:
    """Raise ExportError where the GPU could not hold the old and the new versions together."""
    plan = memory.plan(repository, gpu, {n: widened(repository, c) for n, c in changes.items()})
    if not plan.fits:
        raise ExportError(
            f"the {plan.gpu} would need {plan.needed_mib:,.0f} of {plan.usable_mib:,.0f} MiB: "
            f"{plan.largest()}; prune versions, use fewer instances or --precision fp16"
        )

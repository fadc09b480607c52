"""What is served: probe, flip `version_policy`, journal; and the way back.

A transaction changes the configurations of one model, or of a pipeline and its steps:

1. the journal says `begun`, with every configuration before and after;
2. a new version is loaded as a copy under another name, and asked with its golden rows: a version that
   has not passed never answers to its own name;
3. configurations are widened to hold the old and the new versions, and loaded;
4. the new version is asked again, under its own name; the journal says `flipped`;
5. configurations are narrowed to what is to be served, loaded, and the journal says `done`.

Whatever fails before `flipped` is undone. A killed exporter's transaction is finished or undone by the
next one. Triton's own restart reads the configurations, which at every moment name passed versions only.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from exporters.errors import Busy, ExportError
from exporters.fault_points import reach
from exporters.formats.config_pbtxt import Serving
from exporters.parity import comparison
from exporters.profiles import Gpu
from exporters.release.candidate import CANDIDATE, candidate
from exporters.release.configurations import alone, contract_for, contract_of, widened
from exporters.release.guards import check_folder, check_loaded, check_memory, check_served, superseded
from exporters.release.journal import (
    Entry,
    Journal,
    Recovered,
    ReleaseAction,
    ReleaseChange,
    ReleaseStep,
    StuckTransaction,
    Transaction,
)  # fmt: skip
from exporters.release.probing import probed
from exporters.release.recalled import recalled_names
from exporters.release.released import Released, judged
from exporters.release.settling import Lost, put
from exporters.release.triton_servers import Tritons
from exporters.release.versions import last_good, to_roll_back_to
from exporters.repository.files import now
from exporters.repository.lineage import Lineage
from exporters.repository.repository import ModelRepository
from trading.errors import UltraThinkError
from trading.models.signature import ModelSignature
from trading.users import current_user


class Releases:
    """Releases and rollbacks of one repository on a server, or on all that serve it."""

    def __init__(
        self, repository: ModelRepository, triton: Tritons, gpu: Gpu, progress: Callable[[str], None]
    ) -> None:
        self._repository, self._triton, self._gpu, self._progress = repository, triton, gpu, progress
        self._journal = Journal(repository.journal)

    def release(self, name: str, version: int, instead_of: int | None = None, *, reason: str = "") -> Released:
        """Serve a published version; where `instead_of` is given, only if that is what is served.

        `reason` is kept in the journal.

        Raises:
            ExportError: it is unknown, changed, too large for the GPU, or does not load; or something else is
                served by now.
            ParityError: it does not answer as its source did. Either way the same is served as before.
        """
        lineage = self._repository.verified_lineage(name, version)
        self.recover()
        with self._repository.lock(name, *lineage.contract.steps):
            self._refuse_another(name, instead_of)
            return self._change("release", lineage, version, reason)

    def rollback(
        self, name: str, to: int | None = None, instead_of: int | None = None, *, reason: str = ""
    ) -> Released:
        """Serve an earlier version again: the one before the last release, or `to`; where `instead_of` is given,
        only if that is what is served. `reason` is kept in the journal.

        Raises:
            ExportError: there is none, or it was never served; or something else is served by now.
        """
        self.recover()
        target = to_roll_back_to(self._journal, self._repository, name, to)
        lineage = self._repository.verified_lineage(name, target)
        with self._repository.lock(name, *lineage.contract.steps):
            if (now_target := to_roll_back_to(self._journal, self._repository, name, to)) != target:
                raise Busy(f"{name} was released meanwhile, and would go back to {now_target} now: try again")
            self._refuse_another(name, instead_of)
            return self._change("rollback", lineage, target, reason)

    def _refuse_another(self, name: str, instead_of: int | None) -> None:
        """Raise ExportError where something else is served than what a version is to take the place of."""
        released = self._repository.serving(name).released
        if instead_of is not None and released != instead_of:
            raise ExportError(f"{name} serves version {released} by now, and not {instead_of}: it stays")

    def probe(self, name: str, version: int) -> comparison.ParityComparison:
        """Ask a loaded version with its golden rows. Raises ParityError, ExportError."""
        lineage = self._repository.lineage(name, version)
        return self._probe(lineage, lineage.contract, version)

    def last_good(self, name: str) -> int | None:
        """The version that was served before the one that is."""
        return last_good(self._journal, self._repository, name)

    def recover(self) -> Recovered:
        """Finish or undo what killed exporters began; call it without holding a lock.

        A transaction whose models are held belongs to an exporter that is alive, and is left to it. One that can be
        neither is named and left open: it keeps nobody from releasing other models, nor another version of its own.

        Raises:
            ExportError: the server reads another folder.
            ServiceUnavailable: it does not answer.
        """
        settled, stuck = [], []
        for seen in self._journal.transactions():
            if not seen.open:
                continue
            with contextlib.suppress(Busy), self._repository.lock(*seen.changes):
                now_seen = {t.begun.id: t for t in self._journal.transactions()}
                transaction = now_seen[seen.begun.id]
                if not transaction.open:
                    continue
                check_folder(self._repository, self._triton)
                try:
                    self._recover(transaction)
                except (ExportError, OSError) as error:
                    begun = transaction.begun
                    self._progress(
                        f"leave the {begun.action} of {begun.model} {begun.version} open: it can be neither "
                        f"finished nor undone ({error})"
                    )
                    stuck.append(StuckTransaction(transaction, str(error)))
                else:
                    settled.append(transaction)
        for name in self._repository.names():
            # Of a killed `verify` or `tune`, which have no transaction; or of somebody who asked an old version.
            once_recalled = recalled_names(self._repository, name)
            for copy, held_by in ((name + CANDIDATE, name), *((one, one) for one in once_recalled)):
                if self._triton.is_loaded(copy):
                    with contextlib.suppress(Busy), self._repository.lock(held_by):
                        self._triton.unload(copy)
        return Recovered(settled, stuck)

    def _recover(self, transaction: Transaction) -> None:
        begun, names = transaction.begun, set(transaction.changes)
        if why := superseded(self._repository, self._journal, transaction):
            self._progress(f"leave {begun.action} {begun.model} {begun.version} as it is: {why}")
            self._note(begun, "undone", reason=f"nothing was changed: {why}")
            return
        what = f"the {begun.action} of {begun.model} {begun.version} that was interrupted"
        for name in sorted(names):
            if self._triton.is_loaded(name + CANDIDATE):
                self._triton.unload(name + CANDIDATE)
        if transaction.last.step == "flipped":
            self._progress(f"finish {what}")
            self._settle(transaction.changes)
            self._note(begun, "done", reason="finished after an interruption")
        else:
            self._progress(f"undo {what}")
            if (lost := self._undo(begun, "interrupted")) is not None:
                raise lost

    def _change(self, action: ReleaseAction, lineage: Lineage, version: int, reason: str) -> Released:
        name, started = lineage.contract.name, time.monotonic()
        before = self._repository.serving(name)
        changes = {c.name: c for c in self._plan(action, lineage, version)}
        check_memory(self._repository, self._gpu, changes)
        check_folder(self._repository, self._triton)
        check_served(self._repository, self._triton, changes)
        begun = Entry(
            secrets.token_hex(4), "begun", action, name, version, now(), current_user(), tuple(changes.values()),
            given=reason,
        )  # fmt: skip
        self._journal.append(begun)
        reach("journal_begun")
        try:
            compared, device, flip_seconds = self._flip(changes, lineage, version)
            self._note(begun, "flipped", started)
        except (UltraThinkError, OSError, KeyboardInterrupt) as error:
            if (lost := self._undo(begun, str(error) or "interrupted")) is not None:
                self._progress(f"{name} is not all as it was ({lost}): the next command tries again")
            raise
        reach("flipped")
        try:
            self._settle(changes)
            reach("narrowed")
            self._note(begun, "done", started)
        except (UltraThinkError, OSError, KeyboardInterrupt) as error:
            raise ExportError(
                f"{name} {version} is served, and what is left to do is not done: {str(error) or 'interrupted'}. "
                f"`ultrathink export recover {self._where()}` finishes it"
            ) from error
        return Released(
            name,
            version,
            before.released,
            action,
            compared.max_abs,
            compared.flip_rate,
            round(flip_seconds, 3),
            round(time.monotonic() - started, 3),
            device,
            alone(self._repository, before.released, lineage.contract, version),
            *judged(lineage.contract, compared),
        )

    def _plan(self, action: ReleaseAction, lineage: Lineage, version: int) -> list[ReleaseChange]:
        """Configurations before and after, steps first."""
        repository, signature = self._repository, lineage.contract
        name, before = signature.name, repository.serving(signature.name)
        pins = {step: int(v) for step, v in lineage.steps.items()} if signature.backend == "ensemble" else {}
        others = repository.pins(without=name)
        changes = []
        for step, pinned in pins.items():
            repository.verified_lineage(step, pinned)
            now_served = repository.serving(step)
            # The last good pipeline's steps stay loaded, so that the way back needs no loading.
            wanted = replace(now_served, versions=(before.pins[step],)) if step in before.pins else Serving()
            kept = (
                self._kept(repository.lineage(step, pinned).contract, wanted, pinned)
                if action == "release"
                else set()
            )
            versions = {pinned} | kept | others.get(step, set())
            changes.append(ReleaseChange(step, now_served, replace(now_served, versions=tuple(sorted(versions)))))
        needed = others.get(name, set())
        if needed and max(needed) > version:
            raise ExportError(
                f"{name} {max(needed)} is pinned by an ensemble, and requests without a version would go to it "
                f"rather than to {version}: roll the ensemble back instead"
            )
        kept = self._kept(signature, before, version) if action == "release" else set()
        versions = {version} | kept | needed
        changes.append(ReleaseChange(name, before, replace(before, versions=tuple(sorted(versions)), pins=pins)))
        return changes

    def _kept(self, signature: ModelSignature, before: Serving, version: int) -> set[int]:
        """The version before, for callers who pinned it: not an ensemble's, nor one of another contract."""
        previous = before.released
        if previous == version:
            # What was kept beside it is kept still.
            return set(before.versions)
        if signature.backend == "ensemble" or previous is None or previous >= version:
            return set()
        old, new = (contract_of(self._repository, signature.name, v) for v in (previous, version))
        return {previous} if old == new else set()

    def _flip(
        self, changes: Mapping[str, ReleaseChange], lineage: Lineage, version: int
    ) -> tuple[comparison.ParityComparison, str, float]:
        """Probe copies, widen, load, probe as served."""
        repository, triton = self._repository, self._triton
        ensemble = lineage.contract.backend == "ensemble"
        new = {
            n: v
            for n, c in changes.items()
            for v in set(c.after.versions) - set(c.before.versions)
            if n != lineage.contract.name or not ensemble
        }
        for name, number in new.items():
            self._progress(f"{name} {number}: probe a copy")
            self._try_copy(repository.verified_lineage(name, number), number, changes[name].after)
        started = time.monotonic()
        for name, change in changes.items():
            if name == lineage.contract.name and ensemble:
                continue
            wide = widened(repository, change)
            if wide == change.before and all(set(wide.versions) <= one.ready(name) for one in triton.each()):
                # All of it is loaded: the way back to what was kept needs no loading.
                continue
            self._progress(f"{name}: load {', '.join(map(str, wide.versions))}")
            repository.configure(contract_for(repository, change, wide), wide)
            triton.load(name)
            reach("loaded")
        if ensemble:
            self._progress(f"{lineage.contract.name} {version}: probe a copy")
            self._try_copy(lineage, version, changes[lineage.contract.name].after)
            started = time.monotonic()
            repository.configure(lineage.contract, changes[lineage.contract.name].after)
            triton.load(lineage.contract.name)
            reach("loaded")
        took = time.monotonic() - started
        check_loaded(triton, lineage.contract.name, version)
        self._progress(f"{lineage.contract.name} {version}: probe as served")
        compared = self._probe(lineage, lineage.contract, version)
        return compared, triton.device(lineage.contract.name, version), took

    def _try_copy(self, lineage: Lineage, version: int, serving: Serving) -> None:
        """Load a version under the candidate's name, ask it, unload it."""
        with candidate(self._repository, self._triton, lineage.contract, version, serving) as (copy, _):
            reach("candidate_loaded")
            self._probe(lineage, copy, version)
        reach("candidate_passed")

    def _probe(self, lineage: Lineage, signature: ModelSignature, version: int) -> comparison.ParityComparison:
        return probed(self._repository, self._triton, lineage, signature, version)

    def _where(self) -> str:
        """Words that name the server to a command."""
        if self._triton.each()[0].kind == "Triton":
            return f"--triton-url {self._triton.address}"
        return "--server torchserve"

    def _settle(self, changes: Mapping[str, ReleaseChange]) -> None:
        """Raises what kept anything from being as it should be in the end."""
        wanted = [(change, change.after) for change in reversed(list(changes.values()))]
        if (lost := put(self._repository, self._triton, wanted)) is not None:
            raise lost

    def _undo(self, begun: Entry, reason: str) -> Lost:
        """Put every configuration back, the pipeline before its steps; returns what kept one from it.

        Where Triton is gone the configurations are right nevertheless, and the transaction stays open: the
        next command settles it.
        """
        lost = put(self._repository, self._triton, [(change, change.before) for change in reversed(begun.changes)])
        if lost is None:
            self._note(begun, "undone", reason=reason)
        return lost

    def _note(self, begun: Entry, step: ReleaseStep, started: float | None = None, reason: str = "") -> None:
        seconds = 0.0 if started is None else round(time.monotonic() - started, 3)
        self._journal.append(
            replace(begun, step=step, time=now(), user=current_user(), changes=(), reason=reason, seconds=seconds)
        )

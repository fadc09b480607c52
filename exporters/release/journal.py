"""The journal of releases: one JSON line a step, appended and synced before the step's effect counts."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from exporters.errors import ExportError
from exporters.formats.config_pbtxt import Serving
from exporters.repository.names import model_name
from trading.encoding import Records, encode
from trading.errors import BadRecord

ReleaseStep = Literal["begun", "flipped", "done", "undone"]
ReleaseAction = Literal["release", "rollback"]


class ReleaseChange(Struct, frozen=True):
    """What a transaction makes of one model's configuration."""

    name: str
    before: Serving
    after: Serving


class Entry(Struct, frozen=True):
    """One line.

    Attributes:
        id: of the transaction.
        step: begun; flipped: the new version answers and has been probed; done; undone.
        action: release or rollback.
        model, version: what was asked for.
        time, user: when and by whom.
        changes: configurations before and after; in `begun` only.
        reason: why it was undone.
        given: why it was wanted, as whoever wanted it said.
        seconds: from `begun` to here.
    """

    id: str
    step: ReleaseStep
    action: ReleaseAction
    model: str
    version: int
    time: str
    user: str
    changes: tuple[ReleaseChange, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    given: str = ""


_entries = Records(Entry)


class Transaction(Struct, frozen=True):
    """A release or rollback, and how it ended; `step` is its last."""

    begun: Entry
    last: Entry

    @property
    def open(self) -> bool:
        """Whether it neither finished nor was undone: its exporter was killed."""
        return self.last.step not in {"done", "undone"}

    @property
    def changes(self) -> Mapping[str, ReleaseChange]:
        """By model."""
        return {c.name: c for c in self.begun.changes}


class StuckTransaction(Struct, frozen=True):
    """One that could be neither finished nor undone, and why not; it stays open."""

    transaction: Transaction
    reason: str


class Recovered(Struct, frozen=True):
    """What became of the transactions that killed exporters had left."""

    settled: list[Transaction]
    stuck: list[StuckTransaction]


class Journal:
    """`journal.jsonl` beside the repository."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, entry: Entry) -> None:
        """Write and sync one line; a torn line of a killed writer is cut off first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole != len(content):
                file.truncate(whole)
            file.write(encode(entry) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def entries(self) -> list[Entry]:
        """Every whole line, oldest first. Raises ExportError for one that cannot be read."""
        if not self.path.is_file():
            return []
        found = []
        lines = self.path.read_bytes().split(b"\n")[:-1]
        for number, line in enumerate(lines, 1):
            try:
                entry = _entries.read(line)
                for name in (entry.model, *(change.name for change in entry.changes)):
                    model_name(name)
            except (BadRecord, ExportError) as error:
                raise ExportError(
                    f"{self.path}, line {number} is no release: {error}: repair or remove it"
                ) from error
            found.append(entry)
        return found

    def transactions(self, name: str = "") -> list[Transaction]:
        """In the order in which they began; those that touch a model, where one is named."""
        begun: dict[str, Entry] = {}
        last: dict[str, Entry] = {}
        for entry in self.entries():
            if entry.step == "begun":
                begun[entry.id] = entry
            last[entry.id] = entry
        found = [Transaction(b, last[i]) for i, b in begun.items()]
        return [t for t in found if not name or name in t.changes]

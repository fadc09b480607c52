"""Checkpoints read in order: each signed, none missing, each bound to the line before, no tree ever smaller."""

from __future__ import annotations

from services.forensics.checkpoints import Checkpoint, digest, read
from services.forensics.findings import Finding
from services.forensics.ports import LogName
from trading.errors import BadRecord
from trading.keys import Keys

#: Where all were changed the first are told one by one.
MOST_FINDINGS = 10_000


class CheckpointChain:
    """Takes lines one by one, and keeps of them what a verification needs.

    Attributes:
        count: of checkpoints.
        findings: what is wrong with them.
        last: the newest.
        until: the newest that counts.
    """

    def __init__(
        self, keys: Keys, since: Checkpoint | None = None, until: int | None = None, *, seen: int = -1,
        fresh_ns: int = 2**63 - 1, old_ns: int = -1,
    ) -> None:  # fmt: skip
        """Nothing is read yet.

        Args:
            keys: that are trusted.
            since: smaller trees than its are of no interest.
            until: number of the last that counts; None for all.
            seen: number of the newest that the database has.
            fresh_ns: what was signed since may cover records that came after the database was looked at; it counts
                only where the database has seen it.
            old_ns: what was signed until then may be retired.
        """
        self._keys, self._since, self._until = keys, since, until
        self._seen, self._fresh_ns, self._old_ns = seen, fresh_ns, old_ns
        self._old: Checkpoint | None = None
        self._signed: dict[tuple[str, int], dict[int, bytes]] = {}
        self._previous: str | None = None
        self._expected = 0
        self.count = 0
        self.findings: list[Finding] = []
        self.last: Checkpoint | None = None
        self.until: Checkpoint | None = None

    def take(self, line: bytes) -> Checkpoint | None:
        """The next line; None for what is no checkpoint, or repeats one."""
        try:
            checkpoint = read(line, self._keys)
        except BadRecord as error:
            self.found(self._expected, f"it is none: {error}")
            self._previous, self._expected = None, self._expected + 1
            return None
        number, last = checkpoint.number, self.last
        if last is not None and number <= last.number:
            self.found(number, f"it follows checkpoint {last.number}")
            return None
        if number > self._expected:
            more = number - 1 > self._expected
            said = f"checkpoints {self._expected} to {number - 1} are missing" if more else "it is missing"
            self.found(self._expected, said)
        elif self._previous is not None and checkpoint.previous != self._previous:
            self.found(number, "it does not follow from the line before")
        if last is not None:
            sizes = checkpoint.sizes
            for name in sorted(name for name, size in last.sizes.items() if sizes.get(name, -1) < size):
                self.found(number, f"{name} is smaller than it was")
        self.count, self.last = self.count + 1, checkpoint
        self._previous, self._expected = digest(line), number + 1
        if (self._until is None or number <= self._until) and not self.is_fresh(checkpoint):
            self._keep(checkpoint)
        return checkpoint

    def is_fresh(self, checkpoint: Checkpoint) -> bool:
        """Whether it may be newer than what the database shows."""
        return checkpoint.number > self._seen and checkpoint.signed_at_ns >= self._fresh_ns

    def signed_of(self, name: LogName) -> dict[int, bytes]:
        """Size -> root, as they were signed of a log."""
        return self._signed.get((name.topic_id, name.partition), {})

    def old_of(self, name: LogName) -> int:
        """How many of a log's first records may be retired."""
        head = None if self._old is None else self._old.head(name)
        return 0 if head is None else head.size

    def found(self, number: int, detail: str) -> None:
        """Something is wrong with a checkpoint."""
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding("checkpoint", f"checkpoint {number}", detail, number=number))
        elif len(self.findings) == MOST_FINDINGS:
            said = f"and more, from checkpoint {number} on: {detail}"
            self.findings.append(Finding("checkpoint", "many checkpoints", said, number=number))

    def _keep(self, checkpoint: Checkpoint) -> None:
        self.until = checkpoint
        if checkpoint.signed_at_ns < self._old_ns:
            self._old = checkpoint
        for head in checkpoint.trees:
            before = None if self._since is None else self._since.head(head.name)
            if before is None or head.size >= before.size:
                roots, root = self._signed.setdefault((head.topic_id, head.partition), {}), bytes.fromhex(head.root)
                # What was signed first counts: a later one of the same size is another past.
                if roots.setdefault(head.size, root) != root:
                    self.found(checkpoint.number, f"{head.name} has another root than when it had as many records")

"""Whether a trail is what was signed: checkpoints first, then every log, from its beginning or a trusted one."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from services.forensics.ahead import Ahead
from services.forensics.checkpoint_chain import CheckpointChain
from services.forensics.checkpoints import Checkpoint
from services.forensics.findings import Finding
from services.forensics.kinds import BY_NAME
from services.forensics.log_verifier import LogVerifier
from services.forensics.merkle.tree import GrowingTree, from_bytes
from services.forensics.ports import LogName
from services.forensics.settings import SEVEN_YEARS
from services.forensics.store.reading import LogRow, TrailReader, tables
from trading.keys import Keys

#: So long a checkpoint, and what it covers, may be on its way to the database.
ON_THEIR_WAY_NS = 10_000_000_000
DAY_NS = 86_400_000_000_000


class LogVerdict(Struct, frozen=True):
    """What was seen of a log.

    Attributes:
        log: its name.
        records: how many there are.
        proven: how many of the first are as they were signed.
    """

    log: str
    records: int
    proven: int


class Verification(Struct, frozen=True):
    """What a verification came to; it holds where there are no findings.

    Attributes:
        checkpoints: how many were read.
        logs: verdicts.
        findings: what is not as it was signed.
        since: number of the checkpoint that it began from; -1 for none.
        until: number of the one that it ended at; -1 for all.
    """

    checkpoints: int
    logs: list[LogVerdict]
    findings: list[Finding]
    since: int = -1
    until: int = -1


def verify(
    reader: TrailReader, lines: Iterable[bytes], keys: Keys, *,
    since: Checkpoint | None = None,
    until: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
    now_ns: int | None = None,
    keep_days: int = SEVEN_YEARS,
) -> Verification:  # fmt: skip
    """Verify a trail.

    Args:
        reader: of the database.
        lines: checkpoints from outside the database, the oldest first.
        keys: that are trusted.
        since: a checkpoint that is trusted: what it covers is not looked at again.
        until: number of the checkpoint to end at; None for everything.
        advance: told how many more records were looked at.
        now_ns: wall time at which the database was looked at first; None is now.
        keep_days: what was signed later than so long ago must not be retired.

    Raises:
        ServiceUnavailable: the database does not answer.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    chain = CheckpointChain(
        keys, since, until, seen=reader.last_number(), fresh_ns=now_ns - ON_THEIR_WAY_NS,
        old_ns=now_ns - keep_days * DAY_NS,
    )  # fmt: skip
    compare_copies(chain, lines, reader.checkpoints())
    logs = reader.logs()
    findings = [*chain.findings, *compare_logs({row.name for row in logs}, chain.until)]
    findings += what_is_missing(chain, reader.count(), until)
    verdicts = []
    for row in logs:
        verdict, found = verify_log(reader, row, chain, since, until, advance)
        verdicts += [verdict] if verdict else []
        findings += found
    if until is None:
        findings += strangers(reader, logs)
    numbers = -1 if since is None else since.number, -1 if until is None else until
    return Verification(chain.count, verdicts, findings, *numbers)


def unreadable(why: str) -> Verification:
    """Of a trail that holds a value which nobody can read: none that was signed is such."""
    return Verification(0, [], [Finding("trail", "the database", f"it cannot be read: {why}")])


def verify_log(
    reader: TrailReader,
    row: LogRow,
    chain: CheckpointChain,
    since: Checkpoint | None,
    until: int | None,
    advance: Callable[[int], None],
) -> tuple[LogVerdict | None, list[Finding]]:
    """One log; no verdict of one whose kind is none."""
    if row.kind not in BY_NAME:
        said = f"it is of a kind {row.kind!r} that there is not"
        return None, [Finding("log", str(row.name), said, row.name)]
    ended = None if until is None else chain.until.sizes.get(row.name, 0) if chain.until else 0
    verifier = LogVerifier(reader, row, chain.signed_of(row.name), advance, chain.old_of(row.name))
    start, findings = begin_of(reader, row, since), []
    if start is None:
        said = "it has no batch that ends where the trusted checkpoint does"
        findings.append(Finding("batch", str(row.name), said, row.name))
    verifier.run(*(start or (GrowingTree(), 0)), ended)
    return LogVerdict(str(row.name), verifier.size, verifier.proven_to), findings + verifier.findings


def what_is_missing(chain: CheckpointChain, records: int, until: int | None) -> list[Finding]:
    """Checkpoints without which nothing is said: any at all, or the one to end at."""
    if records and chain.until is None:
        said = f"there is none, and {records} records are on record: nothing says what they must be"
        return [Finding("checkpoint", "the folder of checkpoints", said)]
    if until is not None and (chain.until is None or chain.until.number != until):
        return [Finding("checkpoint", f"checkpoint {until}", "it is not there", number=until)]
    return []


def compare_copies(
    chain: CheckpointChain, lines: Iterable[bytes], copies: Iterator[tuple[int, Any, bytes]]
) -> None:
    """Take the lines from outside, and compare the database's copies: none other, none that is newer."""
    ahead, begun = Ahead(copies), False
    for line in lines:
        checkpoint = chain.take(line)
        if checkpoint is None:
            continue
        while (copy := ahead.see(0)) is not None and copy[0] < checkpoint.number:
            # The line of its number is missing or damaged outside, which the chain has told.
            ahead.take()
        if copy is not None and copy[0] == checkpoint.number:
            ahead.take()
            begun = True
            compare_copy(chain, checkpoint, line, copy)
        elif begun and not chain.is_fresh(checkpoint):
            # A database that was built again has none of before.
            chain.found(checkpoint.number, "the database has no copy of it")
    newest = -1 if chain.last is None else chain.last.number
    for number, _, _ in ahead.rest():
        if number > newest:
            chain.found(number, "the database has it, and the folder of checkpoints has not: it was cut")


def compare_copy(chain: CheckpointChain, checkpoint: Checkpoint, line: bytes, copy: tuple[int, Any, bytes]) -> None:
    """One copy against its line."""
    if copy[2] != line:
        chain.found(checkpoint.number, "the database's copy is another")
    elif abs(copy[1].timestamp() * 1e9 - checkpoint.signed_at_ns) > 1e6:
        chain.found(checkpoint.number, "the database's copy has another time")


def compare_logs(logs: Collection[LogName], last: Checkpoint | None) -> list[Finding]:
    """The logs that were signed are there, under their names."""
    if last is None:
        return []
    findings = []
    for head in last.trees:
        if head.name not in logs:
            where = f"{head.name} ({head.topic_id})"
            last_index = head.size - 1
            findings.append(
                Finding(
                    "log",
                    where,
                    f"{head.size} records were signed, and the log is not on record",
                    head.name,
                    0,
                    last_index,
                )
            )
    return findings


def begin_of(reader: TrailReader, log: LogRow, since: Checkpoint | None) -> tuple[GrowingTree, int] | None:
    """The tree that a trusted checkpoint signed, and the offset after it; None where it is not to be had."""
    head = None if since is None else since.head(log.name)
    if head is None or head.size == 0:
        return GrowingTree(), 0
    batch = reader.batch_before(log.id, head.size)
    if batch is None or batch.to_size != head.size:
        return None
    try:
        tree = GrowingTree(head.size, from_bytes(batch.peaks))
    except ValueError:
        return None
    return (tree, batch.last_offset + 1) if tree.root().hex() == head.root else None


def strangers(reader: TrailReader, logs: Sequence[LogRow]) -> list[Finding]:
    """Rows under a log that their table has not."""
    findings = []
    for kind in tables():
        known = {row.id for row in logs if row.kind == kind}
        for log, count in sorted(reader.counts(kind).items()):
            if log not in known:
                findings.append(
                    Finding("inserted", f"the table {kind}", f"{count} rows of a log {log} that it has not")
                )
    return findings

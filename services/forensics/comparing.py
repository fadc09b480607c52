"""What is stored and not signed yet, against what Kafka has there: nothing that came from elsewhere is signed."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from services.forensics.ports import LogHead, Tail
from services.forensics.records import Record, leaf_of

#: Digits of a digest that tells two incidents apart.
SHOWN = 12


def compare_tail(head: LogHead, tail: Tail | None, committed: Iterable[Record]) -> str:
    """Compare offset by offset, both ways; a sentence where they differ, "" where they do not.

    The sentence names what differs and nothing else: it stays the same while records go on coming, and is another
    for another difference.

    Args:
        head: of the log, as it is stored.
        tail: its rows and tree after what was signed; None where there is no such tree.
        committed: what Kafka has from there to the end of what is stored.
    """
    if tail is None:
        return f"no batch of {head.name} ends where it was signed last"
    stored, known = dict(tail.leaves), {record.offset: leaf_of(record) for record in committed}
    other = sorted(o for o in stored.keys() | known.keys() if stored.get(o) != known.get(o))
    if other:
        digest = sha256()
        for offset in other:
            for leaf in (stored.get(offset), known.get(offset)):
                digest.update(offset.to_bytes(8, "big") + (leaf or b"none"))
        missing = sum(offset not in known for offset in other)
        return (
            f"{len(other)} unsigned records of {head.name}, offsets {other[0]} to {other[-1]}, are not those that "
            f"Kafka has: {missing} are not there at all ({digest.hexdigest()[:SHOWN]})"
        )
    tree = tail.tree.copy()
    for _, leaf in tail.leaves:
        tree.append(leaf)
    if tree.peaks != head.tree.peaks:
        return f"the tree of {head.name} is not that of its unsigned records ({head.tree.root().hex()[:SHOWN]})"
    return ""

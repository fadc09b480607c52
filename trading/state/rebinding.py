"""A signed word that a log continues another: the same records, under new ids of their topics.

A gateway refuses decisions and commits of another log than the one that lies under its name. Where topics had to be
made anew and hold the same records at the same offsets, whoever holds the key of the trail may say so, on the
control topic, where the trail keeps it; a gateway believes it where it knows the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from trading.encoding import Count, Int64, Records, encode
from trading.keys import Keys, check_signature, key_id, signature_of

#: What is signed begins with this, so that no signature of ours for something else fits.
CONTEXT = b"ultrathink-log-rebinding/1\n"


class ComparedLog(Struct, frozen=True):
    """A partition of a topic that was made anew, and found to hold what the trail has of the old one.

    Attributes:
        topic, partition: which.
        records: that were compared, byte for byte.
        end: offset after the last of them.
        root: of the trail's tree of them (SHA-256, in hex); "" where there are none.
        unsigned: how many of them no checkpoint of the trail has signed: whoever owns the database may have written
            them.
    """

    topic: str
    partition: Count
    records: Count
    end: Count
    root: str
    unsigned: Count = 0


class Rebinding(Struct, frozen=True, forbid_unknown_fields=True):
    """What is signed. A field more could restrict it.

    Attributes:
        was, now: names of the logs, as `trading.state.log.log_name` makes them.
        ids: old id -> new id, of every topic that was made anew.
        logs: what was compared.
        ends: a partition: the tick after the last that was decided. What says more of the earlier log is not of it.
        replayed: decisions that were made again of the ticks that are there now, and were the same.
        reason, by, at_ns: why, who says that he asked, and wall time.
    """

    was: str
    now: str
    ids: Mapping[str, str]
    logs: tuple[ComparedLog, ...]
    ends: tuple[Count, ...]
    replayed: Count
    reason: str
    by: str
    at_ns: Int64


class _Signed(Struct, frozen=True, forbid_unknown_fields=True):
    rebinding: msgspec.Raw
    key: str
    signature: str


_signed, _rebindings = Records(_Signed), Records(Rebinding)


def sign_rebinding(rebinding: Rebinding, key: Ed25519PrivateKey) -> str:
    """The text of a command."""
    content = encode(rebinding)
    name = key_id(key.public_key())
    return encode(_Signed(msgspec.Raw(content), name, signature_of(CONTEXT + content, key))).decode()


def read_rebinding(text: str, keys: Keys) -> Rebinding:
    """One that a key of ours has signed. Raises BadRecord."""
    found = _signed.read(text.encode())
    content = bytes(found.rebinding)
    check_signature("a rebinding", CONTEXT + content, found.key, found.signature, keys)
    return _rebindings.read(content)


def names_before(now: str, rebindings: Iterable[Rebinding]) -> dict[str, tuple[int, ...]]:
    """Names under which a log was known before, one rebinding after another, with the ends that it had then.

    What several say of one name counts as far as all of them do.
    """
    known = list(rebindings)
    found = _before(now, [(one.was, one.now) for one in known])
    ends: dict[str, tuple[int, ...]] = {}
    for one in known:
        if one.was in found and one.now in found | {now}:
            before = ends.get(one.was, one.ends)
            ends[one.was] = tuple(map(min, before, one.ends))
    return ends


def ids_before(now: str, rebindings: Iterable[Rebinding]) -> frozenset[str]:
    """Ids that a topic has had before."""
    return _before(now, [pair for one in rebindings for pair in one.ids.items()])


def _before(now: str, pairs: Iterable[tuple[str, str]]) -> frozenset[str]:
    known, found, wanted = list(pairs), set[str](), {now}
    while wanted:
        wanted = {was for was, then in known if then in wanted} - found - {now}
        found |= wanted
    return frozenset(found)

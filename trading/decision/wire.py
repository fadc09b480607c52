"""The wire form of a decision: how it is named and laid out, and how parts of it are read without the rest.

A decision is one JSON object with the fields of `schema.Decision`, in their order and without white space; it
begins with its id and ends with what was taken before it. Whoever reads many of them and needs little of each
reads it here; the writer (`json_kernel`) takes the same texts.
"""

from __future__ import annotations

import re

from msgspec import Struct

from trading.decision.schema import Decision
from trading.encoding import Records
from trading.errors import BadRecord

#: What a decision begins with, up to its id.
HEAD = b'{"decision_id":"'
ACTION, REASON = b',"action":"', b'","reason":"'
#: What it ends with: last, so that they are found from the end.
LIMITS_VERSION, FILLS_TO, CONTROL_TO = b',"limits_version":"', b',"fills_to":', b',"control_to":'
#: Action and reason stand within so many bytes from the beginning.
HEAD_BYTES = 400
#: Of an offset: an int64.
MOST_DIGITS, MOST = 19, 2**63 - 1
_HOLD = ACTION + b"hold" + REASON
_OTHER = re.compile(rb"(.*-)?\d+-\d+")
_TAIL = re.compile(FILLS_TO + rb"(-?\d{1,19})" + CONTROL_TO + rb"(\d{1,19})}")


class PublishedOrder(Struct):
    """The fields of a decision to buy or sell that a rebuild needs, and by which arm it was decided."""

    decision_id: str
    symbol: str
    event_time_ns: int
    quantity: float
    reference_price: float
    variant: str = ""
    model_version: str = ""


class _OnlyId(Struct):
    decision_id: str


_decision, _order, _only_id = Records(Decision), Records(PublishedOrder), Records(_OnlyId)


def decode_decision(payload: bytes) -> Decision:
    """Read a published decision; raises BadRecord for anything else."""
    return _decision.read(payload)


def decode_order(payload: bytes) -> PublishedOrder:
    """The order of a decision that is no HOLD. Raises BadRecord for what is no decision."""
    return _order.read(payload)


def make_id(topic: str, partition: int, offset: int) -> str:
    """The id of the decision about the tick that lies there."""
    return f"{topic}-{partition}-{offset}"


def place(decision_id: str) -> tuple[int, int]:
    """Partition and offset of the tick that a decision id names. Raises ValueError for what is no id."""
    _, partition, offset = decision_id.rsplit("-", 2)
    return int(partition), int(offset)


def decision_id(payload: bytes) -> str:
    """The id of an encoded decision. Raises BadRecord for what is none."""
    return _only_id.read(payload).decision_id


def place_of(payload: bytes) -> tuple[int, int] | None:
    """Partition and offset of the tick that an encoded decision is about; None for what is no decision."""
    try:
        return place(decision_id(payload))
    except (BadRecord, ValueError):
        return None


def place_in(payload: bytes) -> tuple[int, int]:
    """Partition and offset in an encoded decision, without decoding it. Raises ValueError for what is none."""
    begin = len(HEAD)
    _, partition, offset = payload[begin : payload.index(b'"', begin)].rsplit(b"-", 2)
    return int(partition), int(offset)


def reason_in(payload: bytes) -> bytes:
    """The reason in an encoded decision, without decoding it. Raises ValueError for what has none."""
    begin = payload.index(REASON) + len(REASON)
    return payload[begin : payload.index(b'"', begin)]


def id_prefix(topic: str, partition: int) -> bytes:
    """What every encoded decision about a tick of this partition begins with."""
    return HEAD + f"{topic}-{partition}-".encode()


def offset_in(payload: bytes, prefix: bytes) -> int:
    """The tick's offset that a decision's id names; -1 for the id of another topic or partition.

    `prefix` is that of `id_prefix`. Raises BadRecord for what is no decision.
    """
    if payload.startswith(prefix):
        digits = payload[len(prefix) : payload.find(b'"', len(prefix))]
        if digits.isdigit() and len(digits) <= MOST_DIGITS:
            return bounded(int(digits))
    # Written by somebody else, with white space or fields in another order.
    found, own = decision_id(payload).encode(), prefix[len(HEAD) :]
    if not found.startswith(own):
        return -1
    rest = found[len(own) :]
    if rest.isdigit() and len(rest) <= MOST_DIGITS:
        return bounded(int(rest))
    # "market.ticks-0-" begins ids of a topic "market.ticks-0" too.
    if rest.isdigit() or _OTHER.fullmatch(rest) is None:
        raise BadRecord(f"{found[:100].decode(errors='replace')!r} is no id of a decision")
    return -1


def bounded(number: int) -> int:
    """An offset. Raises BadRecord for what no log holds."""
    if number > MOST:
        raise BadRecord(f"{number} is no offset")
    return number


def is_hold(payload: bytes) -> bool:
    """Whether an encoded decision is to do nothing."""
    return _HOLD in payload[:HEAD_BYTES]


def applied_tail(payload: bytes) -> bytes:
    """The end of an encoded decision, which says what was taken before it."""
    return payload[payload.rfind(FILLS_TO) :]


def limits_version_in(payload: bytes) -> bytes:
    """The version of the limits that an encoded decision was judged by, as it stands; b"" for none."""
    begin = payload.find(LIMITS_VERSION)
    return (
        b"" if begin < 0 else payload[begin + len(LIMITS_VERSION) : payload.find(b'"', begin + len(LIMITS_VERSION))]
    )


def applied_in(tail: bytes) -> tuple[int, int]:
    """How far fills and the control topic had been taken. Raises BadRecord for what is no such end."""
    found = _TAIL.fullmatch(tail)
    if found is None:
        raise BadRecord("it does not end with what was taken of fills and commands")
    return bounded(int(found[1])), bounded(int(found[2]))

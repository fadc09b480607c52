"""JSON of what is published, the one way to read what others wrote, and what numbers may be at most."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from trading.errors import BadRecord

T = TypeVar("T")
encode = msgspec.json.Encoder().encode

#: The very end of a text, to Python and to JSON schema alike: `$` alone lets a final newline pass.
END = r"$(?!\n)"
#: What an int64 holds: offsets, sequences and times end up in arrays.
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**62)]
#: Quantities, prices and money: finite, and their products too.
MOST = 1e18
Number = Annotated[float, Meta(gt=-MOST, lt=MOST)]
#: What a reason may quote.
QUOTED = 200


class Records(Generic[T]):
    """Reads records of one type; whatever the bytes are, there is a value or a reason.

    `msgspec` raises three kinds of error: for what is malformed, for text that is not UTF-8, and for what is
    nested too deeply. A reader that forgets one of them dies of a record.
    """

    def __init__(self, kind: type[T], *, packed: bool = False, strict: bool = True) -> None:
        """Prepare.

        Args:
            kind: of the records.
            packed: MessagePack instead of JSON.
            strict: no number is read from text.
        """
        decoder: Any = msgspec.msgpack.Decoder if packed else msgspec.json.Decoder
        self._decode = decoder(kind, strict=strict).decode

    def read(self, payload: bytes | str | None) -> T:
        """The value. Raises BadRecord, which says why there is none."""
        if payload is None:
            raise BadRecord("no payload")
        try:
            found: T = self._decode(payload)
        # ValueError holds malformed JSON and text that is not UTF-8.
        except (msgspec.MsgspecError, RecursionError, ValueError, OverflowError) as error:
            raise BadRecord(str(error)[:QUOTED]) from None
        return found


def safe_text(text: str) -> str:
    """The text as UTF-8 can carry it: what came as bytes of another encoding is escaped, not refused."""
    return text.encode("utf-8", "backslashreplace").decode()

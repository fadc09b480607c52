"""JSON of ticks, decisions and dead letters."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.domain.schemas import Decision, Tick

_tick = msgspec.json.Decoder(Tick)
_ticks = msgspec.json.Decoder(list[Tick])
_decision = msgspec.json.Decoder(Decision)
encode = msgspec.json.Encoder().encode

#: A tick has at most eight short fields; anything longer is not one.
MAX_TICK_BYTES = 4096


def decode_tick(payload: bytes | None) -> Tick | str:
    """The tick, or why it is none."""
    if payload is None:
        return "no payload"
    if len(payload) > MAX_TICK_BYTES:
        return f"{len(payload)} bytes, more than the {MAX_TICK_BYTES} that a tick may have"
    try:
        return _tick.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return str(error)


def decode_ticks(payloads: Sequence[bytes | None]) -> list[Tick | str]:
    """Decode many; one pass over the joined text where all are well-formed."""
    if all(p is not None and p[:1] == b"{" and len(p) <= MAX_TICK_BYTES for p in payloads):
        try:
            ticks = _ticks.decode(b"[" + b",".join(p for p in payloads if p is not None) + b"]")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            ticks = []
        # Ticks are flat and allow no unknown field, so no object can span two payloads; equal
        # counts then prove that each payload held exactly one.
        if len(ticks) == len(payloads):
            return list(ticks)
    return [decode_tick(p) for p in payloads]


def decode_decision(payload: bytes) -> Decision:
    """Read a published decision; raises msgspec.DecodeError for anything else."""
    return _decision.decode(payload)

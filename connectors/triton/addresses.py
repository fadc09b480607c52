"""How people name one Triton, or several."""

from __future__ import annotations

import re

#: A name, or an address, and a port; IPv6 in brackets.
ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s,/:\[\]]+):[0-9]{1,5}")


def split(told: str, where: str) -> tuple[str, ...]:
    """Addresses, host:port of gRPC, with commas between several.

    Args:
        told: what was given.
        where: the setting or option, for people.

    Raises:
        ValueError: one is no address, or is there twice.
    """
    found = tuple(one.strip() for one in told.split(","))
    if wrong := [one for one in found if not ADDRESS.fullmatch(one)]:
        raise ValueError(f"{where} names {wrong[0]!r}: give host:port, of several with commas between them")
    if len(set(found)) < len(found):
        raise ValueError(f"{where} names one twice: {told}")
    return found


def only(told: str, where: str) -> str:
    """The address of what is asked alone. Raises ValueError as `split`, and where there are several."""
    found = split(told, where)
    if len(found) > 1:
        raise ValueError(f"{where} names {len(found)} Tritons, and one is asked: name one of {', '.join(found)}")
    return found[0]

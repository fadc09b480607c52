"""Addresses of servers as they may be shown: without user, password or query, whatever their form."""

from __future__ import annotations

import re

#: Host, port and one name of a database, and nothing that could be more.
_PLAIN = re.compile(r"(\[[0-9a-fA-F:]+\]|[\w.-]+)(:\w{1,5})?(/[\w.-]*)?")
_PART = re.compile(r"\b(host|port|dbname)\s*=\s*([\w./-]+)")


def shown(address: str) -> str:
    """The part of an address that is no secret: host, port and database; "the given address" where in doubt."""
    if "://" not in address and "=" in address:
        return " ".join(f"{name}={value}" for name, value in _PART.findall(address)) or "the given address"
    if "://" not in address:
        return "the given address"
    rest = address.partition("://")[2]
    place = rest.rpartition("@")[2] if "@" in rest else rest
    place = re.split(r"[?#]", place)[0]
    return place if _PLAIN.fullmatch(place) else "the given address"


def scrubbed(said: str, address: str) -> str:
    """What a client said, without what the address kept secret."""
    rest = address.partition("://")[2] or address
    kept = shown(address)
    secrets = set(re.split(r"[:/?#@&=\s]", rest)) - set(re.split(r"[:/?#@&=\s]", kept))
    for secret in sorted((s for s in secrets if len(s) > 2), key=len, reverse=True):
        said = said.replace(secret, "***")
    return said

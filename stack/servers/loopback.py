"""Plain HTTP to servers on this machine."""

from __future__ import annotations

from functools import cache

import httpx


@cache
def client() -> httpx.Client:
    """One for the whole process: to make one reads every certificate authority, which costs more than to ask.

    No proxy of the environment stands between us and ourselves, and no connection outlives a server's restart.
    """
    return httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))

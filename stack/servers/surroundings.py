"""What a shell may hold that is not meant for us, made harmless to this process and to those that it starts."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: Variables of requests, curl and git that name a file of certificate authorities, as SSL_CERT_FILE does to Python.
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")


def hosts(listed: str) -> list[str]:
    """Of a list with commas."""
    return [host.strip() for host in listed.split(",") if host.strip()]


def settle(environment: MutableMapping[str, str] | None = None) -> None:
    """Loopback is never proxied, no module comes from the working folder, and one certificate file is enough.

    Args:
        environment: changed in place; default: this process's.
    """
    found = os.environ if environment is None else environment
    # `python -m` would take a calendar.py, or a stack/, of the folder that somebody happens to be in.
    found["PYTHONSAFEPATH"] = "1"
    # Libraries read one spelling or the other: what a person said in one must hold in both.
    told = dict.fromkeys(host for name in ("no_proxy", "NO_PROXY") for host in hosts(found.get(name, "")))
    for name in ("no_proxy", "NO_PROXY"):
        # It stands for every host, and only where it stands alone.
        found[name] = "*" if "*" in told else ",".join(dict.fromkeys([*told, *LOOPBACK]))
    if "no_grpc_proxy" in found:
        found["no_grpc_proxy"] = ",".join(dict.fromkeys([*hosts(found["no_grpc_proxy"]), *LOOPBACK]))
    if file := found.get("SSL_CERT_FILE"):
        for name in CERTIFICATES:
            found.setdefault(name, file)

"""Whether anybody listens at MLflow's address, asked before its client is loaded, which takes seconds."""

from __future__ import annotations

import contextlib
import socket
import threading
import urllib.request
from urllib.parse import urlsplit

from connectors.addresses import scrubbed, shown
from trading.errors import ConfigurationError, ServiceUnavailable

#: For a name to be found, and for a connection.
PATIENCE_S = 2.0
PORTS = {"http": 80, "https": 443}


def refuse_silent(uri: str) -> None:
    """Raise ServiceUnavailable where nobody listens at an address of HTTP, or its host has no address.

    Other addresses, as `sqlite:` and folders, are MLflow's to open; what lies behind a proxy, the proxy's to find.

    Raises:
        ConfigurationError: the address has a port that is none.
    """
    try:
        told = urlsplit(uri)
        host, port = told.hostname or "", told.port
    except ValueError as error:
        raise ConfigurationError(f"{shown(uri)} is no address of MLflow: {scrubbed(str(error), uri)}") from None
    if told.scheme not in PORTS or not host or is_behind_proxy(told.scheme, host):
        return
    failure: list[str] = ["no connection within 2 s"]

    def connect() -> None:
        try:
            with socket.create_connection((host, port or PORTS[told.scheme]), PATIENCE_S):
                failure.clear()
        except OSError as error:
            failure[:] = [error.strerror or str(error)]
        except UnicodeError:
            failure[:] = [f"{host} can be no name of a host"]

    # Finding a name takes as long as it likes.
    asking = threading.Thread(target=connect, name="mlflow's address", daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    if failure:
        raise unanswered(uri, failure[0])


def is_behind_proxy(scheme: str, host: str) -> bool:
    """Whether this process would ask a proxy for it."""
    with contextlib.suppress(OSError):
        return bool({scheme, "all"} & urllib.request.getproxies().keys()) and not urllib.request.proxy_bypass(host)
    return False


def unanswered(uri: str, why: str) -> ServiceUnavailable:
    """The tracking server does not answer."""
    return ServiceUnavailable(
        f"MLflow at {shown(uri)} does not answer: start it with `ultrathink stack up`, or name another with "
        f"--mlflow-uri or MLFLOW_TRACKING_URI ({scrubbed(why, uri)})"
    )

"""A socket that listens, or a sentence."""

from __future__ import annotations

import socket

from trading.errors import ConfigurationError


def bind(host: str, port: int, way_out: str) -> socket.socket:
    """A socket that is bound there; 0 is any free port.

    Raises:
        ConfigurationError: it cannot be had; `way_out` says what chooses another.
    """
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise ConfigurationError(
            f"port {port} on {host} cannot be had ({error.strerror}): choose another with {way_out}"
        ) from error
    return made

"""TCP ports: free ones, taken ones, and who holds them."""

from __future__ import annotations

import contextlib
import socket

import psutil


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]


def is_free(port: int) -> bool:
    """Whether a server could listen on loopback."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def listener(port: int) -> psutil.Process | None:
    """The process that listens on a port, as far as this user may know."""
    try:
        for connection in psutil.net_connections("tcp"):
            address = connection.laddr
            listens = connection.status == psutil.CONN_LISTEN and address and address.port == port
            if listens and connection.pid:
                return psutil.Process(connection.pid)
    except psutil.Error:
        pass
    return None


def holder(port: int) -> str:
    """The process that listens on a port, in words."""
    found = listener(port)
    return "a process of another user" if found is None else f"{found.name()} (pid {found.pid})"

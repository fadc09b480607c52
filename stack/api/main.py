"""Signals, start, stop."""

from __future__ import annotations

from collections.abc import Callable

import structlog
import uvicorn

from connectors.listening import bind
from connectors.logs import configure
from services.data.main import Server
from stack.api.application import Desk, application
from stack.api.operations import Operation, Operations
from stack.servers.secrets import ensure_secret
from stack.servers.settings import StackSettings
from stack.supervision.doctor import examine
from stack.supervision.status import read_status

log = structlog.get_logger()
#: The file in the folder of secrets that holds the token.
TOKEN = "stack-token"  # noqa: S105 - a file's name


def run(settings: StackSettings, host: str, port: int, listening: Callable[[int], None]) -> None:
    """Serve until SIGTERM or SIGINT; what operations run then are ended.

    Args:
        settings: of the stack.
        host, port: to listen on.
        listening: told of the port, once it is bound.

    Raises:
        ConfigurationError: the port cannot be had.
    """
    configure("info")
    home = settings.absolute_home
    token = ensure_secret(home, TOKEN)
    operations = Operations(home, told=tell)
    desk = Desk(home, lambda: read_status(home), lambda: examine(settings), operations)
    bound = bind(host, port, "--port or ULTRATHINK_PORTS__STACK")
    with bound:
        config = uvicorn.Config(
            application(desk, token), log_level="error", access_log=False, lifespan="off", ws="none",
            server_header=False, timeout_graceful_shutdown=2,
        )  # fmt: skip
        listening(int(bound.getsockname()[1]))
        try:
            Server(config, operations.close).run(sockets=[bound])
        finally:
            operations.close()


def tell(operation: Operation) -> None:
    """To the log: who asked for what, why, and what became of it."""
    log.info(
        "operation", id=operation.id, kind=operation.kind, subject=operation.subject, reason=operation.reason,
        by=operation.by, state=operation.state, exit_code=operation.exit_code,
    )  # fmt: skip

"""Signals, start, stop."""

from __future__ import annotations

import signal
from collections.abc import Callable

import structlog
import uvicorn

from connectors.kafka.identity import act_as
from connectors.listening import bind
from connectors.logs import configure
from connectors.priority import yield_to_others
from services.data.bootstrap import build
from services.data.ports import Analyses, Evidence
from services.data.settings import DataSettings

log = structlog.get_logger()
#: What is being answered has so long to end.
DRAIN_S = 5


def run(
    settings: DataSettings,
    evidence: Evidence,
    analyses: Analyses,
    listening: Callable[[int], None] = lambda _: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then archive what was read, and leave.

    Args:
        settings: of the service.
        evidence, analyses: what the trail's own code answers.
        listening: told of the port, once it is bound.

    Raises:
        ConfigurationError: the port, the tokens, an address or the archive cannot be used.
    """
    configure(settings.log_level)
    act_as("data")
    yield_to_others(settings.nice)
    bound = bind(settings.host, settings.port, "--port or ULTRATHINK_DATA_PORT")
    with bound, build(settings, evidence, analyses) as built:
        config = uvicorn.Config(
            built.app, log_level="error", access_log=False, lifespan="off", ws="none", loop="uvloop",
            http="httptools", timeout_graceful_shutdown=DRAIN_S, server_header=False,
        )  # fmt: skip
        server = Server(config, built.end)
        port = int(bound.getsockname()[1])
        log.info("data service listens", host=settings.host, port=port)
        listening(port)
        server.run(sockets=[bound])
    log.info("data service ended")


class Server(uvicorn.Server):
    """Uvicorn, which takes signals; tails end when one comes, or it would wait for them.

    It would raise a signal that it has obeyed once more, and a process that ended as asked would end with an error.
    """

    def __init__(self, config: uvicorn.Config, end: Callable[[], None]) -> None:
        super().__init__(config)
        self._end = end

    def handle_exit(self, sig: int, frame: object) -> None:
        """Begin to end."""
        del frame
        self._end()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

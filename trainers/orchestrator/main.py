"""Signals, start, stop."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack

import structlog
import uvicorn
from msgspec import Struct

from connectors.ending import told_to_end
from connectors.job_queue import JobQueue
from connectors.listening import bind
from connectors.logs import configure
from connectors.priority import yield_to_others
from trading.errors import ServiceUnavailable
from trainers.orchestrator.api.application import Orchestration, application
from trainers.orchestrator.cycle import StepEnd
from trainers.orchestrator.engine import Engine
from trainers.orchestrator.migrations import prepare
from trainers.orchestrator.observing import OrchestratorMetrics
from trainers.orchestrator.runs import RunRequest
from trainers.orchestrator.service import Chores, Surroundings
from trainers.orchestrator.settings import OrchestratorSettings
from trainers.orchestrator.store import Store
from trainers.orchestrator.store.transitions import Ended

log = structlog.get_logger()
#: PostgreSQL that is away at the start is waited for.
AGAIN_S = 1.0
DRAIN_S = 5


class Wiring(Struct, frozen=True):
    """What the desk gives: what surrounds the orchestrator, and who checks what its runs are asked to do.

    Attributes:
        around: see `Surroundings`.
        check: raises ConfigurationError where a request's spec is none.
    """

    around: Surroundings
    check: Callable[[RunRequest], None]


def run(settings: OrchestratorSettings, wiring: Wiring, listening: Callable[[int], None] = lambda _: None) -> None:
    """Move runs on, and answer over HTTP, until SIGTERM or SIGINT; steps that run go on meanwhile.

    Args:
        settings: of this process.
        wiring: what it works with.
        listening: told of the port, once it is bound.

    Raises:
        ConfigurationError: the port, the policy or an address cannot be used, or the tables are of another version.
    """
    configure("info")
    yield_to_others(settings.nice)
    settings.policy()
    stopping = told_to_end()
    url = settings.postgres_url.get_secret_value()
    with ExitStack() as opened:
        bound = opened.enter_context(bind(settings.host, settings.port, "--port or ULTRATHINK_ORCHESTRATOR_PORT"))
        store = Store(url)
        opened.callback(store.close)
        wait_for_tables(url, stopping)
        queue = JobQueue(url)
        opened.callback(queue.close)
        metrics = OrchestratorMetrics()
        around = wiring.around
        engine = Engine(store.runs, queue, around.executor, f"orchestrator {os.getpid()}", observed(metrics))
        chores = Chores(store, engine, around, settings, metrics)
        opened.callback(chores.close)

        def standing() -> tuple[str, str, list[str]]:
            metrics.waits(engine.problem)
            return engine.problem, chores.paused, list(chores.unseen.values())

        asked = Orchestration(store, around.executor, wiring.check, standing, metrics.registry)
        config = uvicorn.Config(
            application(asked, settings.token.get_secret_value()), log_level="error", access_log=False,
            lifespan="off", ws="none", timeout_graceful_shutdown=DRAIN_S, server_header=False,
        )  # fmt: skip
        server = Server(config)
        answering = threading.Thread(target=lambda: server.run(sockets=[bound]), name="http", daemon=True)
        answering.start()
        port = int(bound.getsockname()[1])
        log.info("the orchestrator listens", host=settings.host, port=port, pool=around.executor.pool.name)
        listening(port)
        engine.run(stopping, chores.do)
        server.should_exit = True
        answering.join(DRAIN_S * 2)
    log.info("the orchestrator ended")


class Server(uvicorn.Server):
    """Uvicorn in a thread of its own: signals are the main thread's."""

    def capture_signals(self) -> ExitStack:  # type: ignore[override]
        """None of them."""
        return ExitStack()


def observed(metrics: OrchestratorMetrics) -> Callable[[Ended], None]:
    """Counts what did not tell its own end."""

    def observe(ended: Ended) -> None:
        if ended.end is StepEnd.LOST:
            metrics.lost()
        if ended.halve:
            metrics.out_of_memory()

    return observe


def wait_for_tables(url: str, stopping: threading.Event) -> None:
    """Until PostgreSQL answers and has this version's tables. Raises ConfigurationError where it cannot have
    them.
    """
    told = ""
    while not stopping.is_set():
        try:
            before, now = prepare(url)
        except ServiceUnavailable as error:
            if str(error) != told:
                told = str(error)
                log.warning("PostgreSQL is waited for", reason=told)
            stopping.wait(AGAIN_S)
            continue
        if before != now:
            log.info("tables were made", before=before or "none", now=now)
        return

"""A queue of jobs on PostgreSQL, by procrastinate: it wakes whoever waits for work, at once and on every machine.

It is not what is true. A job that is lost, doubled or stranded in it (procrastinate's issues 1408, 1518, 1543,
1599)
costs whoever relies on it nothing but time: what is to be done stands in tables of his own, he looks there from
time to time, and puts a job in again for whatever nobody works on. So a job is deleted once it was handed over, and
a queue of another version is made anew, with nothing in it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from psycopg import Error, sql

from connectors.postgres import connect_url, open_pool, refuse_no_address, translated, translating
from trading.errors import ServiceUnavailable

SCHEMA = "job_queue"
TASK, QUEUE = "work", "work"
#: Two who lay it out at once wait for each other.
LOCK = 7_316_520_042
#: Where a notification was lost, jobs are seen after so long.
POLL_S = 2.0
#: A worker that dies is known to be dead after so long; its jobs are nobody's, and come again by whoever relies on
#: it.
HEARTBEAT_S, STALLED_S = 5.0, 20.0
AGAIN_S = 1.0
log = logging.getLogger(__name__)


def lay_out(url: str) -> None:
    """Make the queue's tables where there are none of this version; what an older one held is put in again by
    others.

    Raises:
        ServiceUnavailable: PostgreSQL does not answer, or refuses.
        ConfigurationError: the address is none.
    """
    ours = version("procrastinate")
    with translating("the queue cannot be laid out"), connect_url(url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        row = connection.execute(
            "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s", (SCHEMA,)
        ).fetchone()
        if row is not None and row[0] == ours:
            return
        name = sql.Identifier(SCHEMA)
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(name))
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
        connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(name))
        connection.execute(App(connector=SyncPsycopgConnector()).schema_manager.get_schema())
        connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(name, sql.Literal(ours)))


class JobQueue:
    """Puts jobs in, and hands them over."""

    def __init__(self, url: str) -> None:
        """Nothing is asked yet. Raises ConfigurationError for a wrong address."""
        refuse_no_address(url)
        for name in ("procrastinate", "psycopg.pool"):
            # What it would log of a server that is gone is said by whoever asks.
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._url = url
        self._writing = App(connector=SyncPsycopgConnector())
        self._writing.open(open_pool(url, 1, options=f"-c search_path={SCHEMA}"))

    def close(self) -> None:
        """Put nothing in any more."""
        self._writing.close()

    def put(self, jobs: list[tuple[str, str, int]]) -> int:
        """Put jobs in: what is to be done, a key of which no two wait at once, and a priority; how many are new.

        Raises:
            ServiceUnavailable: PostgreSQL does not answer.
        """
        put = 0
        try:
            for what, key, priority in jobs:
                job = self._writing.configure_task(TASK, queue=QUEUE, queueing_lock=key, priority=priority)
                with suppress(AlreadyEnqueued):
                    job.defer(what=what)
                    put += 1
        except (ConnectorException, Error) as error:
            raise ServiceUnavailable(f"the queue cannot be written: {in_words(error)}") from error
        return put

    def serve(self, work: Callable[[str], None], at_once: int, stopping: threading.Event) -> None:
        """Hand jobs over, the highest priority first, until told to stop; PostgreSQL that is away is waited for.

        Args:
            work: called with what a job is about, in a thread of its own; its errors are logged. It is to return
                soon: a worker that lost its connection waits for it before it goes on.
            at_once: so many are worked on at the same time.
            stopping: ends it; what is worked on is waited for.
        """
        with ThreadPoolExecutor(at_once, "work") as pool:
            while not stopping.is_set():
                try:
                    asyncio.run(self._serve(work, at_once, stopping, pool))
                except (ConnectorException, Error, OSError) as error:
                    log.warning("the queue cannot be read: %s", in_words(error))
                # It ends, too, where its connection was lost.
                stopping.wait(AGAIN_S)

    async def _serve(
        self, work: Callable[[str], None], at_once: int, stopping: threading.Event, pool: ThreadPoolExecutor
    ) -> None:
        options = {"options": f"-c search_path={SCHEMA}", "connect_timeout": 5}
        app = App(
            connector=PsycopgConnector(conninfo=self._url, kwargs=options, min_size=1, max_size=3, timeout=10.0)
        )
        loop = asyncio.get_running_loop()

        @app.task(name=TASK, queue=QUEUE)
        async def one(what: str) -> None:
            try:
                await loop.run_in_executor(pool, work, what)
            except Exception:
                # A job that failed is deleted as any other, and the next one is handed over: see the module.
                log.exception("work on %s failed", what)

        async with app.open_async():
            worker = asyncio.create_task(
                app.run_worker_async(
                    queues=[QUEUE], concurrency=at_once, install_signal_handlers=False, delete_jobs="always",
                    fetch_job_polling_interval=POLL_S, update_heartbeat_interval=HEARTBEAT_S,
                    stalled_worker_timeout=STALLED_S,
                )
            )  # fmt: skip
            while not worker.done():
                if stopping.is_set():
                    worker.cancel()
                    break
                await asyncio.wait([worker], timeout=0.1)
            with suppress(asyncio.CancelledError):
                await worker


def in_words(error: BaseException) -> str:
    """What PostgreSQL said, of an error that the queue has wrapped."""
    inner = error.__cause__ if isinstance(error, ConnectorException) and error.__cause__ is not None else error
    return str(translated(inner, "PostgreSQL")) if isinstance(inner, Error) else str(inner) or type(inner).__name__

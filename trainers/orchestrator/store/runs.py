"""Runs and attempts: what may begin, who works on what, and what became of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from msgspec import Struct

from connectors.postgres import Jsonb
from trading.errors import ConfigurationError
from trainers.orchestrator.admission import Pool, Taken
from trainers.orchestrator.cycle import RunState, Verdict
from trainers.orchestrator.runs import Attempt, Run, RunRequest
from trainers.orchestrator.store.database import Database
from trainers.orchestrator.store.rows import ATTEMPT_COLUMNS, RUN_COLUMNS, note, to_attempt, to_run
from trainers.orchestrator.store.transitions import (
    Ended,
    attempt_of,
    clean,
    dict_rows,
    failed_step,
    found,
    locked,
    move,
    need_of,
    refused,
    submitted,
    taken_of,
)

#: From where on its experiment runs: once that was stopped it is over.
PROMOTE, COMPARED = "promote", frozenset({"shadow", "canary", "promote"})
#: Two workers never promise the same memory: who looks at a pool holds this lock of it.
LOCK = 731_652_043
#: A worker that is not heard of for so long is dead; it says that it lives four times as often.
LEASE_S = 20.0


class Refused(Struct, frozen=True):
    """Why a step cannot begin now."""

    why: str


class Standing(Struct, frozen=True):
    """How an attempt stands.

    Attributes:
        is_ours: whether it is the one that the run waits for.
        holds: whether its lease does.
        cancelled: why somebody wants the run to end; "" where nobody does.
    """

    is_ours: bool
    holds: bool
    cancelled: str


class RunStore:
    """Implements what is asked about runs."""

    def __init__(self, database: Database) -> None:
        """Of a database whose tables are there."""
        self._database = database

    # ---- asked for ----

    def submit(self, request: RunRequest, run: str = "") -> tuple[Run, bool]:
        """Make a run known; the one there is where its trigger key was submitted before.

        Args:
            request: what is wanted.
            run: its id; "": a new one.

        Returns:
            The run, and whether it is new.

        Raises:
            ConfigurationError: there is no such kind.
            ServiceUnavailable: PostgreSQL does not answer.
        """
        with self._database.transaction("the run cannot be submitted") as connection:
            return submitted(connection, request, run)

    def get(self, run: str) -> Run:
        """One run. Raises ConfigurationError where there is none of that id; ServiceUnavailable."""
        with self._database.transaction("the run cannot be read") as connection:
            return found(connection, run)

    def listed(self, limit: int, state: str = "", before: str = "", kind: str = "") -> list[Run]:
        """Runs, the newest first: in a state and of a kind, or any; submitted before another. Raises
        ServiceUnavailable.
        """
        with self._database.transaction("the runs cannot be read") as connection:
            rows = dict_rows(
                connection,
                f"SELECT {RUN_COLUMNS} FROM orchestrator.runs WHERE (%(state)s = '' OR state = %(state)s) AND "  # noqa: S608
                "(%(kind)s = '' OR kind = %(kind)s) AND "
                "(%(before)s = '' OR place < (SELECT place FROM orchestrator.runs WHERE id = %(before)s)) "
                "ORDER BY place DESC LIMIT %(limit)s",
                {"state": state, "kind": kind, "before": before, "limit": limit},
            )
            return [to_run(row) for row in rows]

    def attempts(self, run: str) -> list[Attempt]:
        """At all of a run's steps, in their order. Raises ServiceUnavailable."""
        with self._database.transaction("the attempts cannot be read") as connection:
            rows = dict_rows(
                connection,
                f"SELECT {ATTEMPT_COLUMNS} FROM orchestrator.attempts WHERE run = %(run)s ORDER BY fence",  # noqa: S608
                {"run": run},
            )
            return [to_attempt(row) for row in rows]

    def cancel(self, run: str, reason: str, by: str) -> Run:
        """Have a run end; what it began that others see is put back first.

        Raises:
            ConfigurationError: there is none of that id, or it has ended.
            ServiceUnavailable: PostgreSQL does not answer.
        """
        with self._database.transaction("the run cannot be cancelled") as connection:
            one = locked(connection, run)
            if one.state is RunState.ENDED:
                raise ConfigurationError(f"run {run} has ended: {one.verdict}")
            if one.step == PROMOTE:
                raise ConfigurationError(
                    f"run {run} is being promoted, and half of that would be worse than all of it: "
                    "`ultrathink export rollback MODEL` goes back"
                )
            connection.execute(
                "UPDATE orchestrator.runs SET cancelled = %s, not_before = now() WHERE id = %s",
                (f"{reason} ({by})", run),
            )
            note(connection, run, "cancelled", by, reason)
            return found(connection, run)

    def retry(self, run: str, reason: str, by: str) -> Run:
        """Try the step again at which a run failed, or was cancelled; its batches are as asked again.

        Raises:
            ConfigurationError: there is none of that id, or it has not ended so.
            ServiceUnavailable: PostgreSQL does not answer.
        """
        with self._database.transaction("the run cannot be tried again") as connection:
            one = locked(connection, run)
            if one.state is not RunState.ENDED or one.verdict not in {Verdict.FAILED, Verdict.CANCELLED}:
                told = (
                    f"has ended: {one.verdict}"
                    if one.state is RunState.ENDED
                    else f"has not ended: it is {one.state} at {one.step}"
                )
                raise ConfigurationError(f"run {run} {told}: what failed, or was cancelled, can be tried again")
            step = failed_step(connection, one)
            if step in COMPARED:
                raise ConfigurationError(
                    f"run {run} {one.verdict} at {step}, and its experiment was stopped: submit another run"
                )
            connection.execute(
                "UPDATE orchestrator.runs SET state = 'ready', step = %s, verdict = '', why = '', cancelled = '', "
                "not_before = now(), failures = 0, losses = 0, divisor = 1, ended_at = NULL WHERE id = %s",
                (step, run),
            )
            note(connection, run, "tried again", by, f"at {step}: {reason}")
            return found(connection, run)

    # ---- worked on ----

    def waiting(self) -> list[Run]:
        """Whose step may begin now, in the order in which they should. Raises ServiceUnavailable."""
        with self._database.transaction("the waiting runs cannot be read") as connection:
            rows = dict_rows(
                connection,
                f"SELECT {RUN_COLUMNS} FROM orchestrator.runs WHERE state = 'ready' AND not_before <= now() "  # noqa: S608
                "ORDER BY priority DESC, place",
            )
            return [to_run(row) for row in rows]

    def claim(
        self, run: str, pool: Pool, lease_s: float, who: tuple[str, str], free_mb: int | None
    ) -> tuple[Run, Attempt] | Refused:
        """Begin an attempt at a run's step, if it is its turn and there is room; nobody else begins it then.

        Args:
            run: whose step.
            pool: whose memory it takes.
            lease_s: so long whoever begins is believed to live, and longer with each `renew`.
            who: who begins, on record, and as its executor calls it.
            free_mb: what the machine has left; None where nobody can tell.

        Returns:
            The run and its attempt, or why it cannot begin now.

        Raises:
            ServiceUnavailable: PostgreSQL does not answer.
        """
        by, holder = who
        with self._database.transaction("the step cannot begin") as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (LOCK, pool.name))
            one = locked(connection, run)
            if why := refused(connection, one, pool, by, free_mb):
                return Refused(why)
            need = need_of(one)
            connection.execute(
                "UPDATE orchestrator.runs SET state = 'running', fence = fence + 1, progress = '{}', "
                "why = CASE WHEN verdict = '' THEN '' ELSE why END, "
                "lease_until = now() + %s WHERE id = %s",
                (timedelta(seconds=lease_s), run),
            )
            connection.execute(
                "INSERT INTO orchestrator.attempts (run, fence, step, pool, holder, memory_mb, gpu_mb) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s)",
                (run, one.fence + 1, one.step, pool.name, holder, need.memory_mb, need.gpu_mb),
            )
            note(connection, run, "began", by, f"{one.step}, attempt {one.fence + 1}")
            return found(connection, run), attempt_of(connection, run, one.fence + 1)

    def started(self, run: str, fence: int, reference: str) -> None:
        """Where an attempt runs. Raises ServiceUnavailable."""
        with self._database.transaction("where the step runs cannot be kept") as connection:
            connection.execute(
                "UPDATE orchestrator.attempts SET reference = %s WHERE run = %s AND fence = %s",
                (reference, run, fence),
            )

    def renew(self, run: str, fence: int, lease_s: float, progress: Any = None) -> bool:
        """Say that the worker of an attempt lives, and how far it is; false where another has taken over, or it is
        done.

        Raises ServiceUnavailable.
        """
        with self._database.transaction("the lease cannot be renewed") as connection:
            told = connection.execute(
                "UPDATE orchestrator.runs SET lease_until = now() + %s, progress = coalesce(%s, progress) "
                "WHERE id = %s AND fence = %s AND state = 'running'",
                (timedelta(seconds=lease_s), None if progress is None else Jsonb(clean(progress)), run, fence),
            )
            return told.rowcount == 1

    def standing(self, run: str, fence: int) -> Standing:
        """How an attempt stands now, by PostgreSQL's clock. Raises ServiceUnavailable."""
        with self._database.transaction("the attempt cannot be looked at") as connection:
            row = connection.execute(
                "SELECT lease_until > now(), cancelled FROM orchestrator.runs "
                "WHERE id = %s AND fence = %s AND state = 'running'",
                (run, fence),
            ).fetchone()
        return Standing(False, False, "") if row is None else Standing(True, bool(row[0]), str(row[1]))

    def finish(self, run: str, fence: int, ended: Ended, by: str) -> bool:
        """Tell what became of an attempt; false, and nothing is changed, where another has taken over.

        Raises ServiceUnavailable.
        """
        with self._database.transaction("the step's end cannot be kept") as connection:
            one = locked(connection, run)
            if one.state is not RunState.RUNNING or one.fence != fence:
                return False
            move(connection, one, ended, by)
            return True

    def gone(self, run: str, fence: int, exit_code: int | None = None, peak_mb: int | None = None) -> None:
        """An attempt's process lives no more: what it took is free again. Raises ServiceUnavailable."""
        with self._database.transaction("the process' end cannot be kept") as connection:
            connection.execute(
                "UPDATE orchestrator.attempts SET ended_at = coalesce(ended_at, now()), "
                "exit_code = coalesce(exit_code, %s), peak_mb = coalesce(peak_mb, %s) "
                "WHERE run = %s AND fence = %s",
                (exit_code, peak_mb, run, fence),
            )

    def living(self) -> list[tuple[Attempt, bool]]:
        """Attempts whose processes may live, and whether their lease holds. Raises ServiceUnavailable."""
        with self._database.transaction("the living attempts cannot be read") as connection:
            rows = dict_rows(
                connection,
                f"SELECT {ATTEMPT_COLUMNS}, EXISTS (SELECT 1 FROM orchestrator.runs r WHERE r.id = run "  # noqa: S608
                "AND r.fence = attempts.fence AND r.state = 'running' AND r.lease_until > now()) AS holds "
                "FROM orchestrator.attempts WHERE ended_at IS NULL ORDER BY started_at",
            )
            return [(to_attempt(row), bool(row["holds"])) for row in rows]

    def taken(self, pool: str) -> Taken:
        """What of a pool steps have been promised. Raises ServiceUnavailable."""
        with self._database.transaction("what is taken cannot be read") as connection:
            return taken_of(connection, pool)

    def forget(self, run: str) -> None:
        """Delete a run that has ended, with its attempts and what happened to it. Raises ServiceUnavailable."""
        with self._database.transaction("the run cannot be deleted") as connection:
            gone = connection.execute("DELETE FROM orchestrator.runs WHERE id = %s AND state = 'ended'", (run,))
            if gone.rowcount:
                connection.execute("DELETE FROM orchestrator.events WHERE run = %s", (run,))

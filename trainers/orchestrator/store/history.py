"""What happened, in order; and what is not needed any more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from msgspec import Struct

from trainers.orchestrator.runs import HistoryLine, Run
from trainers.orchestrator.store.database import Database
from trainers.orchestrator.store.rows import RUN_COLUMNS, to_line, to_run
from trainers.orchestrator.store.transitions import dict_rows

#: Kinds whose runs, where they succeed, put into service what they have made: those stay for ever.
SERVING = ("cycle", "update")
#: Keys of one thing that is looked at differ behind the last "/": of an archive, the ticks that it had reached.
OLD_RECORDS = (
    "DELETE FROM orchestrator.events WHERE run = '' AND at < now() - %(older)s",
    (
        "DELETE FROM orchestrator.slots s WHERE s.decided_at < now() - %(older)s "
        "AND NOT EXISTS (SELECT 1 FROM orchestrator.schedules d WHERE d.name = s.schedule AND d.after < s.at) "
        "AND NOT EXISTS (SELECT 1 FROM orchestrator.runs r WHERE r.id = s.run)"
    ),
    (
        "DELETE FROM orchestrator.firings f WHERE f.at < now() - %(older)s "
        "AND NOT EXISTS (SELECT 1 FROM orchestrator.runs r WHERE r.id = f.run) "
        "AND EXISTS (SELECT 1 FROM orchestrator.firings n WHERE n.trigger = f.trigger AND n.at > f.at "
        "AND regexp_replace(n.key, '[^/]*$', '') = regexp_replace(f.key, '[^/]*$', ''))"
    ),
)


class Counts(Struct, frozen=True):
    """Of all runs.

    Attributes:
        open: those that have not ended, by step and state.
        ended: within a day, by verdict.
        oldest_ready_s: how long the oldest waits that may begin.
        taken_back: watches within a day that had the last good version serve again.
        found: what the newest check has found, drift or decay.
    """

    open: dict[tuple[str, str], int]
    ended: dict[str, int]
    oldest_ready_s: float
    taken_back: int = 0
    found: tuple[str, ...] = ()


class HistoryStore:
    """Implements what is asked about the past."""

    def __init__(self, database: Database) -> None:
        """Of a database whose tables are there."""
        self._database = database

    def lines(self, run: str = "", limit: int = 100, before_id: int = 0) -> list[HistoryLine]:
        """What happened to a run, or at all: the newest first. Raises ServiceUnavailable."""
        with self._database.transaction("the history cannot be read") as connection:
            rows = dict_rows(
                connection,
                "SELECT * FROM orchestrator.events WHERE (%(run)s = '' OR run = %(run)s) "
                "AND (%(before)s = 0 OR id < %(before)s) ORDER BY id DESC LIMIT %(limit)s",
                {"run": run, "limit": limit, "before": before_id},
            )
            return [to_line(row) for row in rows]

    def firings(self, limit: int = 50) -> list[dict[str, Any]]:
        """What fired, and how it was ruled on: the newest first. Raises ServiceUnavailable."""
        with self._database.transaction("what fired cannot be read") as connection:
            rows = dict_rows(
                connection,
                "SELECT trigger, key, extract(epoch FROM at)::float8 AS at_s, coalesce(run, '') AS run, refused, "
                "detail "
                "FROM orchestrator.firings ORDER BY at DESC LIMIT %(limit)s",
                {"limit": limit},
            )
            return [dict(row) for row in rows]

    def slots(self, schedule: str = "", limit: int = 50) -> list[dict[str, Any]]:
        """Slots that were decided: the newest first. Raises ServiceUnavailable."""
        with self._database.transaction("the slots cannot be read") as connection:
            rows = dict_rows(
                connection,
                "SELECT schedule, extract(epoch FROM at)::float8 AS at_s, coalesce(run, '') AS run, skipped "
                "FROM orchestrator.slots WHERE (%(schedule)s = '' OR schedule = %(schedule)s) "
                "ORDER BY at DESC LIMIT %(limit)s",
                {"schedule": schedule, "limit": limit},
            )
            return [dict(row) for row in rows]

    def counts(self) -> Counts:
        """How many runs stand where. Raises ServiceUnavailable."""
        with self._database.transaction("the runs cannot be counted") as connection:
            standing = dict_rows(
                connection,
                "SELECT step, state, count(*) AS n FROM orchestrator.runs WHERE state <> 'ended' "
                "GROUP BY step, state",
            )
            ended = dict_rows(
                connection,
                "SELECT verdict, count(*) AS n FROM orchestrator.runs WHERE state = 'ended' "
                "AND ended_at > now() - interval '1 day' GROUP BY verdict",
            )
            oldest = dict_rows(
                connection,
                "SELECT coalesce(extract(epoch FROM now() - min(not_before)), 0)::float8 AS s "
                "FROM orchestrator.runs "
                "WHERE state = 'ready' AND not_before <= now()",
            )
            taken_back = dict_rows(
                connection,
                "SELECT count(*) AS n FROM orchestrator.runs WHERE kind = 'guard' AND verdict = 'rejected' "
                "AND ended_at > now() - interval '1 day'",
            )
            checked = dict_rows(
                connection,
                "SELECT outputs->'assess'->'kinds' AS kinds FROM orchestrator.runs WHERE kind = 'check' "
                "AND verdict = 'succeeded' ORDER BY place DESC LIMIT 1",
            )
        return Counts(
            {(row["step"], row["state"]): int(row["n"]) for row in standing},
            {row["verdict"]: int(row["n"]) for row in ended}, float(oldest[0]["s"]), int(taken_back[0]["n"]),
            tuple(kind for row in checked for kind in row["kinds"] or ()),
        )  # fmt: skip

    def forgettable(self, older: timedelta, best: int, kept: Sequence[str]) -> list[Run]:
        """Runs that ended, and that nobody needs: not the newest, not the best, and none of those to be kept.

        Args:
            older: that ended longer ago.
            best: so many with the highest `score` of their training's output stay.
            kept: ids that stay for ever: what they made serves, or served.

        Raises:
            ServiceUnavailable: PostgreSQL does not answer.
        """
        with self._database.transaction("the old runs cannot be read") as connection:
            rows = dict_rows(
                connection,
                f"SELECT {RUN_COLUMNS} FROM orchestrator.runs WHERE state = 'ended' "  # noqa: S608 - our own words
                "AND ended_at < now() - %(older)s AND NOT (id = ANY(%(kept)s)) "
                "AND NOT (kind = ANY(%(serving)s) AND verdict = 'succeeded') "
                "AND id NOT IN (SELECT id FROM orchestrator.runs WHERE outputs->'train'->>'score' IS NOT NULL "
                "ORDER BY (outputs->'train'->>'score')::float8 DESC LIMIT %(best)s) ORDER BY place",
                {"older": older, "kept": list(kept), "best": best, "serving": list(SERVING)},
            )
            return [to_run(row) for row in rows]

    def is_named_elsewhere(self, run: str, dataset: str) -> bool:
        """Whether another run has built the same dataset, or one that has not ended names it, or has yet to name
        its data. Raises ServiceUnavailable.
        """
        with self._database.transaction("the datasets cannot be looked up") as connection:
            return (
                connection.execute(
                    "SELECT 1 FROM orchestrator.runs WHERE id <> %s AND (outputs->'build'->>'dataset' = %s "
                    "OR state <> 'ended' AND (step IN ('collect', 'build') OR strpos(spec::text, %s) > 0)) LIMIT 1",
                    (run, dataset, dataset),
                ).fetchone()
                is not None
            )

    def forget_records(self, older: timedelta) -> int:
        """Delete slots, firings and what happened to no run, that are older and whose run is gone; how many.

        Of each trigger's keys the newest stays: what it looks at may stand still, and is ruled on once.
        A slot is not decided again: its schedule has passed it. Raises ServiceUnavailable.
        """
        with self._database.transaction("the old records cannot be deleted") as connection:
            return sum(connection.execute(told, {"older": older}).rowcount for told in OLD_RECORDS)

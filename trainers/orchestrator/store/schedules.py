"""Schedules, their slots, and what fired: each slot and each firing is decided once, whoever looks."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from connectors.postgres import Connection, Jsonb
from trading.errors import BadRecord, ConfigurationError
from trainers.orchestrator.cycle import LOOKING_ON, PROMOTING, Verdict
from trainers.orchestrator.runs import RunRequest
from trainers.orchestrator.schedules import Schedule, due
from trainers.orchestrator.store.database import Database
from trainers.orchestrator.store.rows import note
from trainers.orchestrator.store.transitions import dict_rows, submitted
from trainers.orchestrator.triggers import ALWAYS, Begun, Kind, Ruling, TriggerPolicy, rule, span_of

#: Who rules on triggers holds this lock: two that fire at once are two, and a most of one is one.
LOCK = 731_652_044
#: A slot that is older was missed.
LATE = timedelta(minutes=5)
#: So many slots of a schedule are decided in one transaction.
AT_ONCE = 500


class KeptSchedule(Struct, frozen=True):
    """A schedule as it stands: whether it is paused, and the newest slot that was decided, s since 1970."""

    schedule: Schedule
    paused: bool
    after_s: float


class Fired(Struct, frozen=True):
    """What became of something that happened: the run that it began, "" for none, and why not."""

    run: str
    why_not: str


class ScheduleStore:
    """Implements what is asked about schedules and triggers."""

    def __init__(self, database: Database) -> None:
        """Of a database whose tables are there."""
        self._database = database

    def put(self, schedule: Schedule, by: str, after: datetime | None = None) -> None:
        """Make a schedule known, or change it; slots before `after` (now) are not due.

        Raises:
            ConfigurationError: it is none.
            ServiceUnavailable: PostgreSQL does not answer.
        """
        schedule.check(after or datetime.now(UTC))
        with self._database.transaction("the schedule cannot be kept") as connection:
            connection.execute(
                "INSERT INTO orchestrator.schedules (name, definition, after) VALUES (%s, %s, coalesce(%s, now())) "
                "ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, "
                "after = greatest(schedules.after, excluded.after)",
                (schedule.name, Jsonb(msgspec.to_builtins(schedule)), after),
            )
            note(connection, "", "scheduled", by, f"{schedule.name}: {schedule.cron} {schedule.tz}")

    def pause(self, name: str, by: str, *, paused: bool) -> None:
        """Have it begin nothing, or go on from now. Raises ConfigurationError for none of that name."""
        with self._database.transaction("the schedule cannot be changed") as connection:
            told = connection.execute(
                "UPDATE orchestrator.schedules SET paused = %s, after = CASE WHEN paused AND NOT %s THEN now() "
                "ELSE after END WHERE name = %s",
                (paused, paused, name),
            )
            if not told.rowcount:
                raise unknown(name)
            note(connection, "", "paused" if paused else "resumed", by, f"schedule {name}")

    def remove(self, name: str, by: str) -> None:
        """Take it away; what it began goes on. Raises ConfigurationError for none of that name."""
        with self._database.transaction("the schedule cannot be taken away") as connection:
            if not connection.execute("DELETE FROM orchestrator.schedules WHERE name = %s", (name,)).rowcount:
                raise unknown(name)
            note(connection, "", "unscheduled", by, name)

    def listed(self) -> list[KeptSchedule]:
        """All, by name. Raises ServiceUnavailable, and BadRecord where one is of a version that is not known."""
        with self._database.transaction("the schedules cannot be read") as connection:
            rows = dict_rows(connection, "SELECT * FROM orchestrator.schedules ORDER BY name")
            return [KeptSchedule(to_schedule(r), bool(r["paused"]), r["after"].timestamp()) for r in rows]

    def names(self) -> list[str]:
        """Of those that are not paused; also of one that this version does not know. Raises ServiceUnavailable."""
        with self._database.transaction("the schedules cannot be read") as connection:
            rows = dict_rows(connection, "SELECT name FROM orchestrator.schedules WHERE NOT paused ORDER BY name")
            return [str(row["name"]) for row in rows]

    def decide(self, name: str, now: datetime, policy: TriggerPolicy, late: timedelta = LATE) -> int:
        """Begin runs for a schedule's slots that are due and that nobody has decided; how many slots were decided.

        Args:
            name: of the schedule.
            now: nothing later is due.
            policy: quiet hours and the most a day hold for schedules, too.
            late: a slot that is older was missed.

        Raises:
            ServiceUnavailable: PostgreSQL does not answer; nothing is decided then.
        """
        with self._database.transaction("the schedule's slots cannot be decided") as connection:
            # With whatever else may begin a run: a most of one is one.
            connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (LOCK,))
            rows = dict_rows(
                connection, "SELECT * FROM orchestrator.schedules WHERE name = %(name)s FOR UPDATE", {"name": name}
            )
            if not rows or rows[0]["paused"]:
                return 0
            schedule, after = to_schedule(rows[0]), rows[0]["after"].astimezone(UTC)
            found = due(schedule, after, now, late)[:AT_ONCE]
            for slot in found:
                # It begins now, whenever it was due.
                why = slot.skipped or not_yet(connection, schedule.kind)
                why = why or ruled(connection, policy, "schedule", now, schedule.kind).why_not
                self._slot(connection, schedule, slot.at, why)
            if found:
                connection.execute(
                    "UPDATE orchestrator.schedules SET after = %s WHERE name = %s", (found[-1].at, name)
                )
            return len(found)

    @staticmethod
    def _slot(connection: Connection[Any], schedule: Schedule, at: datetime, why: str) -> None:
        """One slot, which nobody has decided: the schedule is locked, and the slots are unique besides."""
        taken = connection.execute(
            "INSERT INTO orchestrator.slots (schedule, at, skipped) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING "
            "RETURNING at",
            (schedule.name, at, why),
        ).fetchone()
        if taken is None:
            return
        if why:
            note(connection, "", "skipped", "orchestrator", f"{schedule.name} at {at:%Y-%m-%dT%H:%MZ}: {why}")
            return
        request = RunRequest(
            kind=schedule.kind, spec=schedule.spec, priority=schedule.priority, trigger="schedule",
            trigger_key=f"slot/{schedule.name}/{at:%Y-%m-%dT%H:%MZ}",
            reason=f"schedule {schedule.name}, due {at:%Y-%m-%d %H:%M} UTC", by=f"schedule {schedule.name}",
        )  # fmt: skip
        run, _ = submitted(connection, request)
        connection.execute(
            "UPDATE orchestrator.slots SET run = %s WHERE schedule = %s AND at = %s", (run.id, schedule.name, at)
        )

    def fire(
        self, kind: Kind, key: str, request: RunRequest, policy: TriggerPolicy, now: datetime, detail: Any
    ) -> Fired:
        """Rule on something that happened, once: begin its run, or say why not.

        Args:
            kind: of trigger.
            key: of what happened: the same is ruled on once.
            request: of the run.
            policy: what bounds it.
            now: when.
            detail: what was seen, for whoever asks why.

        Raises:
            ServiceUnavailable: PostgreSQL does not answer.
        """
        with self._database.transaction("the trigger cannot be ruled on") as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (LOCK,))
            rows = dict_rows(
                connection,
                "SELECT run, refused FROM orchestrator.firings WHERE trigger = %(kind)s AND key = %(key)s",
                {"kind": kind, "key": key},
            )
            if rows:
                return Fired(rows[0]["run"] or "", rows[0]["refused"])
            ruling, run = ruled(connection, policy, kind, now, request.kind), ""
            if ruling.begins:
                run = submitted(connection, request)[0].id
            connection.execute(
                "INSERT INTO orchestrator.firings (trigger, key, at, run, refused, detail) "
                "VALUES (%s, %s, %s, nullif(%s, ''), %s, %s)",
                (kind, key, now, run, ruling.why_not, Jsonb(detail)),
            )
            note(connection, run, "fired", kind, ruling.why_not or key)
            return Fired(run, ruling.why_not)


def not_yet(connection: Connection[Any], kind: str) -> str:
    """Why what only looks does not look again; "" where it may. What bounds trainings does not bound it: one at a
    time does.
    """
    if kind not in LOOKING_ON:
        return ""
    other = open_run(connection, {kind})
    return f"run {other} has not ended, and one {kind} at a time is enough" if other else ""


def open_run(connection: Connection[Any], kinds: Collection[str]) -> str:
    """One of these kinds that has not ended; "" where there is none."""
    row = connection.execute(
        "SELECT id FROM orchestrator.runs WHERE kind = ANY(%s) AND state <> 'ended' LIMIT 1", (list(kinds),)
    ).fetchone()
    return "" if row is None else str(row[0])


def ruled(connection: Connection[Any], policy: TriggerPolicy, kind: Kind, now: datetime, of: str) -> Ruling:
    """By what was begun before, within the transaction; `of` is the kind of run that would begin.

    What was promoted and then taken back came to nothing.
    """
    if of in LOOKING_ON:
        return Ruling("")
    if of in PROMOTING and kind not in ALWAYS and (other := open_run(connection, PROMOTING)):
        return Ruling(f"run {other} has not ended, and one at a time is compared with the champion")
    since = now - max(span_of(policy.false_window), span_of(policy.most_cool_down), timedelta(days=2))
    rows = dict_rows(
        connection,
        "SELECT trigger, submitted_at, CASE WHEN EXISTS (SELECT 1 FROM orchestrator.runs g "
        "WHERE g.kind = 'guard' AND g.trigger_key = 'guard/' || r.id AND g.verdict = 'rejected') "
        "THEN 'rejected' ELSE verdict END AS verdict "
        "FROM orchestrator.runs r WHERE submitted_at > %(since)s AND kind <> ALL(%(looking_on)s)",
        {"since": since, "looking_on": sorted(LOOKING_ON)},
    )
    before = [Begun(r["trigger"], r["submitted_at"].astimezone(UTC), Verdict(r["verdict"])) for r in rows]
    return rule(policy, kind, now, before)


def to_schedule(row: dict[str, Any]) -> Schedule:
    """Of its row. Raises BadRecord where it is of a version that is not known."""
    try:
        return msgspec.convert(row["definition"], Schedule)
    except msgspec.ValidationError as error:
        raise BadRecord(f"schedule {row['name']} is none that this version knows: {error}") from error


def unknown(name: str) -> ConfigurationError:
    """There is no schedule of that name."""
    return ConfigurationError(
        f"there is no schedule {name[:64]!r}: `ultrathink orchestrator schedule list` names them"
    )

"""What changes of a run within one transaction: what follows an attempt's end, and whose turn it is."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct

from connectors.postgres import Connection, Jsonb, dict_row
from trading.encoding import safe_text
from trading.errors import BadRecord, ConfigurationError
from trainers.orchestrator.admission import NEEDS, SMALL_MB, Need, Pool, Taken, is_impossible, refusal
from trainers.orchestrator.cycle import KINDS, REJECT, RunState, StepEnd, after, first_step
from trainers.orchestrator.runs import Attempt, Run, RunRequest
from trainers.orchestrator.store.rows import ATTEMPT_COLUMNS, RUN_COLUMNS, note, to_attempt, to_run

#: A step that was tried so often, and failed for itself each time, fails; and one that somebody ended so often.
MOST_FAILURES, MOST_LOSSES = 5, 60
#: An attempt at what only waits that lived for so long was well.
WAITING, WELL_S = frozenset({"shadow", "canary", "watch"}), 1_800.0
#: Between two tries: this, doubled with each, up to the most.
AGAIN_S, MOST_AGAIN_S, MOST_LOST_S = 2.0, 300.0, 30.0
#: What no pool here can ever hold is asked for again after so long: another machine may.
ELSEWHERE_S = 60.0
#: A step that learns in batches and runs out of memory is tried again with batches of half the size, so many times.
BATCHED, MOST_HALVINGS = frozenset({"train", "trial", "update"}), 1


class Ended(Struct, frozen=True, kw_only=True):
    """What became of an attempt.

    Attributes:
        end: of it.
        why: in words.
        output: of a step that is done.
        exit_code, peak_mb: of its process, where it was seen.
        halve: whether batches are to be half as large next time, since memory ran out.
        again_s: when it is tried again, where it is; None: later with each try.
        patient: whether it is no fault of its own, and it may be tried as often as it takes.
    """

    end: StepEnd
    why: str = ""
    output: Any = None
    exit_code: int | None = None
    peak_mb: int | None = None
    halve: bool = False
    again_s: float | None = None
    patient: bool = False


def new_id() -> str:
    """Of a run: short, and never given twice."""
    return secrets.token_hex(6)


def dict_rows(
    connection: Connection[Any], query: str, values: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Rows by the names of their columns."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, values or {}).fetchall()


def submitted(connection: Connection[Any], request: RunRequest, run: str = "") -> tuple[Run, bool]:
    """See `RunStore.submit`."""
    name = run or new_id()
    made = connection.execute(
        "INSERT INTO orchestrator.runs "
        "(id, kind, spec, priority, trigger, trigger_key, reason, submitted_by, step) "
        "VALUES (%s, %s, %s, %s, %s, nullif(%s, ''), %s, %s, %s) ON CONFLICT DO NOTHING RETURNING id",
        (
            name, request.kind, Jsonb(request.spec), request.priority, request.trigger, request.trigger_key,
            request.reason, request.by, first_step(request.kind),
        ),
    ).fetchone()  # fmt: skip
    if made is None:
        row = connection.execute(
            "SELECT id FROM orchestrator.runs WHERE trigger_key = %s OR id = %s", (request.trigger_key, name)
        ).fetchone()
        assert row is not None  # noqa: S101 - what it collided with
        return found(connection, row[0]), False
    note(connection, name, "submitted", request.by, request.reason)
    return found(connection, name), True


def found(connection: Connection[Any], run: str, lock: str = "") -> Run:
    """A run. Raises ConfigurationError where there is none of that id."""
    rows = dict_rows(
        connection,
        f"SELECT {RUN_COLUMNS} FROM orchestrator.runs WHERE id = %(run)s {lock}",  # noqa: S608 - our own words
        {"run": run},
    )
    if not rows:
        raise ConfigurationError(f"there is no run {run[:64]!r}: `ultrathink orchestrator status` lists them")
    return to_run(rows[0])


def locked(connection: Connection[Any], run: str) -> Run:
    """A run that nobody else changes meanwhile. Raises ConfigurationError."""
    return found(connection, run, "FOR UPDATE")


def attempt_of(connection: Connection[Any], run: str, fence: int) -> Attempt:
    """One attempt that is there."""
    rows = dict_rows(
        connection,
        f"SELECT {ATTEMPT_COLUMNS} FROM orchestrator.attempts WHERE run = %(run)s AND fence = %(fence)s",  # noqa: S608
        {"run": run, "fence": fence},
    )
    return to_attempt(rows[0])


def need_of(run: Run) -> Need:
    """What its step takes: what its request says of it, and else what such a step takes.

    Raises BadRecord where the request says what is none: of a newer version, perhaps.
    """
    usual = msgspec.to_builtins(NEEDS.get(run.step, NEEDS["train"]))
    try:
        told = (run.request.spec.get("needs") or {}).get(run.step) or {}
        return msgspec.convert({**usual, **{k: v for k, v in told.items() if v is not None}}, Need)
    except (msgspec.ValidationError, AttributeError, TypeError, ValueError) as error:
        raise BadRecord(f"needs of {run.step}: {error}") from None


def usual_need(run: Run) -> Need:
    """What a step takes; of a request that says what is none, what such a step takes."""
    try:
        return need_of(run)
    except BadRecord:
        return NEEDS.get(run.step, NEEDS["train"])


def yields(run: Run) -> bool:
    """Whether its step stands still where the desk is slow."""
    return usual_need(run).yields


def goes_first(run: Run) -> bool:
    """Whether it is woken before its turn: what only looks on, what is to be put back, and what is cancelled."""
    return run.step == REJECT or bool(run.cancelled) or usual_need(run).memory_mb <= SMALL_MB


def refused(connection: Connection[Any], run: Run, pool: Pool, by: str, free_mb: int | None) -> str:
    """Why a step cannot begin now, "" where it can; what was cancelled, or is no request, ends.

    What is to be put back begins, whatever else runs: a challenger that does harm waits for nobody's memory.
    """
    if run.state is not RunState.READY:
        return f"it is {run.state}"
    if run.step == REJECT:
        return ""
    if run.step not in KINDS.get(run.request.kind, ()):
        # Of a newer version: it is left to that, and keeps nobody waiting.
        connection.execute(
            "UPDATE orchestrator.runs SET not_before = now() + %s WHERE id = %s",
            (timedelta(seconds=ELSEWHERE_S), run.id),
        )
        return f"this version knows no step {run.step} of a {run.request.kind}"
    if run.cancelled:
        move(connection, run, Ended(end=StepEnd.CANCELLED, why=run.cancelled), by)
        return "it was cancelled"
    try:
        need = need_of(run)
    except BadRecord as error:
        move(connection, run, Ended(end=StepEnd.FAILED, why=str(error)), by)
        return str(error)
    impossible = is_impossible(need, pool)
    why = refusal(need, pool, Taken(), None) if impossible else not_yet(connection, run)
    why = why or refusal(need, pool, taken_of(connection, pool.name), free_mb)
    if why:
        # What another machine may have is asked for again, and keeps nobody waiting here.
        later = timedelta(seconds=ELSEWHERE_S if impossible else 0.0)
        connection.execute(
            "UPDATE orchestrator.runs SET why = %s, not_before = greatest(not_before, now() + %s) WHERE id = %s",
            (f"waits: {why}", later, run.id),
        )
    return why


def not_yet(connection: Connection[Any], run: Run) -> str:
    """Why it is not its turn: who came before begins before; "" where it is."""
    row = connection.execute(
        "SELECT other.id FROM orchestrator.runs other, orchestrator.runs me WHERE me.id = %s AND other.id <> me.id "
        "AND other.state = 'ready' AND other.not_before <= now() AND other.cancelled = '' "
        "AND (other.priority, -other.place) > (me.priority, -me.place) ORDER BY other.priority DESC, other.place "
        "LIMIT 1",
        (run.id,),
    ).fetchone()
    return "" if row is None or need_of(run).memory_mb <= SMALL_MB else f"run {row[0]} comes before it"


def clean(value: Any) -> Any:
    """As PostgreSQL and JSON can hold it: no NUL, no half of a letter, no number that is none."""
    if isinstance(value, str):
        return safe_text(value).replace("\x00", "\\x00")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {clean(str(key)): clean(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [clean(one) for one in value]
    return value


def taken_of(connection: Connection[Any], pool: str) -> Taken:
    """What attempts whose processes may live have been promised."""
    row = connection.execute(
        "SELECT coalesce(sum(memory_mb), 0), coalesce(sum(gpu_mb), 0), count(*) FILTER (WHERE memory_mb > %s) "
        "FROM orchestrator.attempts WHERE pool = %s AND ended_at IS NULL",
        (SMALL_MB, pool),
    ).fetchone()
    assert row is not None  # noqa: S101 - one row, always
    return Taken(int(row[0]), int(row[1]), int(row[2]))


def failed_step(connection: Connection[Any], run: Run) -> str:
    """At which it failed, or was cancelled: where it stands, or stood before it was put back."""
    if run.step != REJECT:
        return run.step
    row = connection.execute("SELECT stood_at FROM orchestrator.runs WHERE id = %s", (run.id,)).fetchone()
    return first_step(run.request.kind) if row is None or not row[0] else str(row[0])


def move(connection: Connection[Any], run: Run, ended: Ended, by: str) -> None:
    """Carry out what follows an attempt's end; of a run that is locked."""
    failures, losses = counts(connection, run)
    end, why, divisor = ended.end, clean(ended.why), run.divisor
    halves = ended.halve and run.step in BATCHED
    # What only waits takes little: whatever took its memory may be over soon.
    lost = ended.halve and run.step in WAITING
    failures += end is StepEnd.AGAIN and not ended.patient and not lost
    losses += end is StepEnd.LOST or lost or (ended.patient and ended.again_s is None)
    if run.cancelled and end in {StepEnd.AGAIN, StepEnd.LOST} and run.step != REJECT:
        end, why = StepEnd.CANCELLED, run.cancelled
    elif halves and divisor >= 2**MOST_HALVINGS:
        end, why = StepEnd.FAILED, f"{why}; batches of half the size did not fit either"
    elif halves:
        divisor *= 2
    elif end is StepEnd.AGAIN and failures >= MOST_FAILURES and run.step != REJECT:
        end, why = StepEnd.FAILED, f"{why} (tried {failures} times)"
    elif end in {StepEnd.AGAIN, StepEnd.LOST} and losses >= MOST_LOSSES and run.step != REJECT:
        end, why = StepEnd.FAILED, f"{why} ({losses} times)"
    then = after(run.request.kind, run.step, run.verdict, end)
    is_same = then.step == run.step and then.state is RunState.READY
    wait_s = 0.0
    if end is StepEnd.AGAIN:
        later = min(MOST_AGAIN_S, AGAIN_S * 2.0 ** min(16, max(failures, losses) - 1))
        wait_s = later if ended.again_s is None or (ended.halve and not halves) else ended.again_s
    elif end is StepEnd.LOST and losses > 1:
        # Once is at once; what is lost again and again would only be lost again.
        wait_s = min(MOST_LOST_S, 2.0 ** min(16, losses - 2))
    outputs = {run.step: clean(ended.output)} if end is StepEnd.DONE and ended.output is not None else {}
    stood = run.step if then.step == REJECT != run.step else ""
    connection.execute(
        "UPDATE orchestrator.runs SET stood_at = coalesce(nullif(%s, ''), stood_at), state = %s, step = %s, "
        "verdict = %s, why = %s, "
        "lease_until = NULL, not_before = now() + %s, divisor = %s, failures = %s, losses = %s, "
        "outputs = outputs || %s, progress = '{}', "
        "ended_at = CASE WHEN %s = 'ended' THEN now() END WHERE id = %s",
        (
            stood, then.state, then.step, then.verdict, reason_of(run, end, why) if then.verdict else why,
            timedelta(seconds=wait_s), divisor, failures if is_same else 0, losses if is_same else 0,
            Jsonb(outputs), then.state, run.id,
        ),
    )  # fmt: skip
    connection.execute(
        "UPDATE orchestrator.attempts SET outcome = %s, why = %s, exit_code = coalesce(%s, exit_code), "
        "peak_mb = coalesce(%s, peak_mb) WHERE run = %s AND fence = %s AND outcome IS NULL",
        (end, why, ended.exit_code, ended.peak_mb, run.id, run.fence),
    )
    told = f"{run.step}: {why}" if why else run.step
    note(connection, run.id, str(end), by, told if then.state is not RunState.ENDED else f"{told} ({then.verdict})")


def reason_of(run: Run, end: StepEnd, why: str) -> str:
    """Of a verdict: why it came to that, whatever became of putting things back, as long as that can be done."""
    put_back = run.step == REJECT and end is not StepEnd.FAILED
    return run.why or why if put_back else why or run.why


def counts(connection: Connection[Any], run: Run) -> tuple[int, int]:
    """Attempts at this step that failed for themselves, and that somebody ended, in a row; of one that only waits
    an attempt that was well for long has ended the row.
    """
    row = connection.execute(
        "SELECT failures, losses, EXISTS (SELECT 1 FROM orchestrator.attempts a WHERE a.run = r.id "
        "AND a.fence = r.fence AND a.started_at < now() - %s) FROM orchestrator.runs r WHERE id = %s",
        (timedelta(seconds=WELL_S), run.id),
    ).fetchone()
    assert row is not None  # noqa: S101 - it is locked
    return (0, 0) if row[2] and run.step in WAITING else (int(row[0]), int(row[1]))

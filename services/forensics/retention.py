"""How long records are kept, and what sees to it: once a day, as the schema's owner."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import structlog

from services.forensics.checkpoint_files import CheckpointFiles
from services.forensics.checkpoints import Checkpoint, read
from services.forensics.store.retiring import PATIENT, Patience, RetiredPart, retire
from trading.errors import BadRecord, ConfigurationError, ServiceUnavailable
from trading.keys import Keys

log = structlog.get_logger()
DAY_S, HOUR_S = 86_400.0, 3600.0
#: A desk signs every minute; one that rests may be looked at so much later.
AHEAD_NS = 3600 * 10**9
#: The days before the newest checkpoint in which there must be another.
NEAR = timedelta(days=40)
#: Between two signs of life.
LOOK_S = 60.0


def cutoff_of(keep_days: int, now_ns: int) -> datetime:
    """The time before which nothing must be kept."""
    return datetime.fromtimestamp(now_ns / 1e9, UTC) - timedelta(days=keep_days)


def signed_before(files: CheckpointFiles, keys: Keys, cutoff: datetime) -> Checkpoint | None:
    """The newest checkpoint that was signed before a time; None where there is none. Raises ConfigurationError."""
    for path in reversed(files.files_until(cutoff.date())):
        if (found := newest(files.lines_of(path), keys, int(cutoff.timestamp() * 1e9))) is not None:
            return found
    return None


def newest(lines: Iterable[bytes], keys: Keys, before_ns: int) -> Checkpoint | None:
    """Of those that count and are old enough."""
    found = None
    for line in lines:
        try:
            checkpoint = read(line, keys)
        except BadRecord:
            continue
        if checkpoint.signed_at_ns < before_ns and (found is None or checkpoint.number > found.number):
            found = checkpoint
    return found


def retire_due(
    owner_url: str,
    files: CheckpointFiles,
    keys: Keys,
    keep_days: int,
    told: Callable[[RetiredPart], None] = lambda _: None,
    *,
    now_ns: int | None = None,
    try_only: bool = False,
    patience: Patience = PATIENT,
) -> list[RetiredPart]:
    """Retire what need not be kept any more. Raises as `retire`, and ConfigurationError for a folder of no use.

    The time is the machine's, and never much later than the newest checkpoint says; and checkpoints must have been
    signed on two days of its last weeks: a clock that is wrong for an hour ends nothing.
    """
    last = newest(filter(None, [files.last()]), keys, 2**63 - 1)
    if last is None:
        return []
    now_ns = min(time.time_ns() if now_ns is None else now_ns, last.signed_at_ns + AHEAD_NS)
    cutoff = cutoff_of(keep_days, now_ns)
    refuse_leap(files, cutoff)
    signed = signed_before(files, keys, cutoff)
    return [] if signed is None else retire(owner_url, signed, cutoff, told, try_only=try_only, patience=patience)


def refuse_leap(files: CheckpointFiles, cutoff: datetime) -> None:
    """Raise ConfigurationError where something is old enough, and only since the newest day of the checkpoints."""
    days = files.days()
    if days and days[0] < cutoff.date() and not any(timedelta(0) < days[-1] - day <= NEAR for day in days):
        raise ConfigurationError(
            f"the checkpoints leap to {days[-1]}, with none in the {NEAR.days} days before: nothing is retired "
            "until forensics has signed on one more day, by a clock that is right"
        )


class DailyRetention:
    """Retires what is due, at once and then once a day; what fails is tried again in an hour."""

    def __init__(self, owner_url: str, files: CheckpointFiles, keys: Keys, keep_days: int) -> None:
        """Nothing is done yet."""
        self._owner_url, self._files, self._keys, self._keep_days = owner_url, files, keys, keep_days
        self._closing = threading.Event()

    def start(self) -> Callable[[], None]:
        """In a thread; returns what ends it. What it is about ends with the process, and nothing of it counts."""
        thread = threading.Thread(target=self.run, name="retention", daemon=True)
        thread.start()

        def close() -> None:
            self._closing.set()
            thread.join(1.0)

        return close

    def run(self, alive: Callable[[], None] = lambda: None) -> None:
        """Until it is ended; `alive` is called every minute."""
        due_s = time.monotonic()
        while True:
            alive()
            if time.monotonic() >= due_s:
                due_s = time.monotonic() + self._once()
            if self._closing.wait(min(LOOK_S, max(0.0, due_s - time.monotonic()))):
                return

    def _once(self) -> float:
        """Seconds until the next time."""
        try:
            for part in retire_due(self._owner_url, self._files, self._keys, self._keep_days):
                log.info("retired", part=part.part, records=part.records, keep_days=self._keep_days)
        except ServiceUnavailable as error:
            # One that is read, or a server that is away: the next hour will do.
            log.warning("not all could be retired", reason=str(error)[:300])
            return HOUR_S
        except Exception:
            # Records are kept longer than they must be: nothing else may end for it.
            log.exception("not all could be retired")
            return HOUR_S
        return DAY_S

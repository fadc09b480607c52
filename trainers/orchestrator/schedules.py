"""When a schedule's runs are due: cron's expressions, in a time zone.

At the clocks' changes cron's rules of Debian hold (cron(8)): what is due at a fixed time within the hour that is
left out is due when that hour is over, and what is due within the hour that comes twice is due once. What is due
every so many minutes goes by time that has passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from msgspec import Meta, Struct

from trading.errors import ConfigurationError
from trainers.orchestrator.cycle import steps_of
from trainers.orchestrator.runs import BY_ITSELF, Name

#: An hour that comes twice, or not at all, lies within so much.
CHANGE = timedelta(hours=3)
#: Nothing that is due more seldom than this is worth a schedule; where nothing is, the expression means nothing.
FURTHEST = timedelta(days=366 * 9)
#: More slots than this at once are no schedule that somebody wanted: a training takes minutes.
SHORTEST = timedelta(minutes=1)


class Schedule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Runs that begin by the clock.

    Attributes:
        name: of it.
        cron: five fields, as cron(5) has them: minute, hour, day of the month, month, day of the week.
        tz: an IANA time zone.
        kind, spec, priority: of its runs, see `RunRequest`.
        missed: what becomes of slots that passed while nobody looked: the latest of them is run, all are, or none.
    """

    name: Name
    cron: str
    tz: str = "UTC"
    kind: str = "cycle"
    spec: dict[str, Any] = {}
    priority: Annotated[int, Meta(ge=-100, le=100)] = BY_ITSELF
    missed: Literal["latest", "all", "none"] = "latest"

    def check(self, now: datetime) -> None:
        """Raise ConfigurationError where it would never be due, or is none."""
        steps_of(self.kind)
        first = next(iter(self.slots(now, now + FURTHEST)), None)
        if first is None:
            raise ConfigurationError(f"schedule {self.name}: {self.cron!r} is never due")

    def slots(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """When it is due, in order: later than `after`, `until` at the latest; in UTC.

        Raises:
            ConfigurationError: the expression or the time zone is none.
        """
        zone = zone_of(self.tz)
        if len(self.cron.split()) != 5:
            raise ConfigurationError(
                f"{self.cron!r} is no schedule: expected five fields, minute hour day month weekday, as "
                "'30 2 * * 1-5'"
            )
        try:
            # Within an hour that comes twice a time is no place: it begins before, and what has passed is left out.
            times = CronSim(self.cron, (after - CHANGE).astimezone(zone))
        except (CronSimError, ValueError) as error:
            said = str(error).lower()[:100]
            raise ConfigurationError(f"{self.cron[:100]!r} is no schedule: {said}") from None
        last = after
        for local in times:
            at = local.astimezone(UTC)
            if at > until:
                return
            if at > last:
                last = at
                yield at


class Due(Struct, frozen=True):
    """A slot, and why nothing is run for it; "" where a run is."""

    at: datetime
    skipped: str


def zone_of(name: str) -> ZoneInfo:
    """A time zone. Raises ConfigurationError."""
    try:
        return ZoneInfo(name)
    # A name that leads out of the folder of zones is a ValueError.
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(f"{name!r} is no time zone: expected a name as Europe/Berlin or UTC") from None


def due(schedule: Schedule, after: datetime, now: datetime, late: timedelta) -> list[Due]:
    """The slots since somebody looked last, and what becomes of each.

    Args:
        schedule: whose.
        after: of the newest slot that was decided, or when the schedule was made.
        now: nothing later is due.
        late: a slot that is older was missed.
    """
    slots = list(schedule.slots(after, now))
    found = []
    for k, at in enumerate(slots):
        why = ""
        if now - at > late and schedule.missed != "all":
            if schedule.missed == "none":
                why = "it passed while nobody looked"
            elif k < len(slots) - 1:
                why = "it passed while nobody looked, and a later one is due"
        found.append(Due(at, why))
    return found

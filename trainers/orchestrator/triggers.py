"""Whether something that happened begins a run: drift, decay and new data do not, on every wobble.

A trigger that fires too often is worse than none: each run costs the machine an hour, and each challenger the desk
a risk. So each has a cool-down, quiet hours, a most of runs a day; and what it begins is counted: of a trigger
whose runs end in nothing, the cool-down doubles with each in a row, so that false ones are bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Literal

from msgspec import Meta, Struct

from trading.errors import ConfigurationError
from trading.spans import parse_span, span_text
from trainers.orchestrator.cycle import Verdict
from trainers.orchestrator.schedules import zone_of

Kind = Literal["drift", "decay", "data", "rollback", "schedule", "hand"]
#: What a person asks for, and what puts something back, is begun at once.
ALWAYS: frozenset[str] = frozenset({"hand", "rollback"})
#: Of runs that came to nothing.
IN_VAIN = frozenset({Verdict.REJECTED, Verdict.FAILED})


class TriggerPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What bounds runs that begin by themselves.

    Attributes:
        cool_down: a span; so long after the begin of the last run of the same trigger no other is begun.
        most_cool_down: what doubling it leads to at most.
        quiet: hours in which nothing begins, "HH:MM-HH:MM"; over midnight too.
        tz: of the quiet hours, and of what a day is.
        most_a_day: runs of all triggers together, those by hand not counted.
        most_false: runs of one trigger that ended in nothing within `false_window`, after which it begins none.
        false_window: a span.
    """

    cool_down: str = "1h"
    most_cool_down: str = "7d"
    quiet: tuple[str, ...] = ()
    tz: str = "UTC"
    most_a_day: Annotated[int, Meta(ge=0, le=10_000)] = 8
    most_false: Annotated[int, Meta(ge=1, le=1000)] = 5
    false_window: str = "7d"

    def check(self) -> None:
        """Raise ConfigurationError where something of it is none."""
        zone_of(self.tz)
        for hours in self.quiet:
            hours_of(hours)
        for name in ("cool_down", "most_cool_down", "false_window"):
            try:
                parse_span(getattr(self, name))
            except ConfigurationError as error:
                raise ConfigurationError(f"{name}: {error}") from None


class Begun(Struct, frozen=True):
    """A run that was begun before: by what, when, and what it came to."""

    trigger: str
    at: datetime
    verdict: Verdict


class Ruling(Struct, frozen=True):
    """Whether a run begins; why not in words, "" where it does; and from when on it would, where that is known."""

    why_not: str
    again_at: datetime | None = None

    @property
    def begins(self) -> bool:
        """Whether it does."""
        return not self.why_not


def rule(policy: TriggerPolicy, kind: Kind, now: datetime, before: Sequence[Begun]) -> Ruling:
    """Whether what happened begins a run.

    Args:
        policy: what bounds it.
        kind: of what happened.
        now: when.
        before: runs that were begun, in any order; those of `false_window` and of the last `most_cool_down` matter.
    """
    if kind in ALWAYS:
        return Ruling("")
    if until := quiet_until(policy, now):
        return Ruling(f"nothing begins before {until:%Y-%m-%d %H:%M} UTC: these are quiet hours", until)
    ours = [one for one in before if one.trigger not in ALWAYS]
    found = of_the_day(policy, now, ours)
    # A schedule's cool-down is its own expression's.
    if found.begins and kind != "schedule":
        same = sorted((one for one in ours if one.trigger == kind), key=lambda one: one.at)
        found = of_the_trigger(policy, kind, now, same)
    return found


def of_the_day(policy: TriggerPolicy, now: datetime, begun: Sequence[Begun]) -> Ruling:
    """Whether one more may begin today by itself."""
    zone = zone_of(policy.tz)
    today = now.astimezone(zone).date()
    count = sum(1 for one in begun if one.at.astimezone(zone).date() == today)
    if count < policy.most_a_day:
        return Ruling("")
    tomorrow = datetime.combine(today + timedelta(days=1), time(), zone).astimezone(UTC)
    return Ruling(f"{count} runs began today by themselves, which is the most", tomorrow)


def of_the_trigger(policy: TriggerPolicy, kind: Kind, now: datetime, same: Sequence[Begun]) -> Ruling:
    """Whether one trigger may begin another, after those that it began, in order."""
    window = span_of(policy.false_window)
    wrong = [one for one in same if one.verdict in IN_VAIN and now - one.at < window]
    if len(wrong) >= policy.most_false:
        again = wrong[-policy.most_false].at + window
        why = f"{len(wrong)} runs that {kind} began within {policy.false_window} came to nothing"
        return Ruling(f"{why}: it begins none before {again:%Y-%m-%d %H:%M} UTC", again)
    wait = cool_down(policy, same)
    if not same or now - same[-1].at >= wait:
        return Ruling("")
    doubled = "" if wait == span_of(policy.cool_down) else ", longer since its last runs came to nothing"
    told = f"{kind} began a run at {same[-1].at:%Y-%m-%d %H:%M} UTC, and cools down for"
    return Ruling(f"{told} {span_text(wait.total_seconds() * 1e9)}{doubled}", same[-1].at + wait)


def cool_down(policy: TriggerPolicy, same: Sequence[Begun]) -> timedelta:
    """After these runs of one trigger, in order: twice as long for each of the last ones that came to nothing."""
    wait, most = span_of(policy.cool_down), span_of(policy.most_cool_down)
    for one in reversed(same):
        if one.verdict not in IN_VAIN:
            break
        wait = min(most, wait * 2)
    return wait


def quiet_until(policy: TriggerPolicy, now: datetime) -> datetime | None:
    """When the quiet hours end that `now` lies in; None where it lies in none. In UTC."""
    zone = zone_of(policy.tz)
    local = now.astimezone(zone)
    found = None
    for hours in policy.quiet:
        begin, end = hours_of(hours)
        over_midnight = end <= begin
        clock = local.time()
        inside = begin <= clock < end if not over_midnight else clock >= begin or clock < end
        if inside:
            day = local.date() + timedelta(days=1 if over_midnight and clock >= begin else 0)
            until = datetime.combine(day, end, zone).astimezone(UTC)
            found = until if found is None else max(found, until)
    return found


def hours_of(text: str) -> tuple[time, time]:
    """Of "HH:MM-HH:MM". Raises ConfigurationError."""
    begin, dash, end = text.partition("-")
    try:
        if not dash:
            raise ValueError(text)
        return _time(begin), _time(end)
    except ValueError:
        raise ConfigurationError(f"{text!r} is no span of a day: expected HH:MM-HH:MM, as 22:00-06:00") from None


def _time(text: str) -> time:
    hours, colon, minutes = text.strip().partition(":")
    if not colon or not (hours + minutes).isascii() or not (hours + minutes).isdigit():
        raise ValueError(text)
    return time(int(hours), int(minutes))


def span_of(text: str) -> timedelta:
    """A span as the standard library has it. Raises ConfigurationError."""
    return timedelta(microseconds=parse_span(text) / 1_000)

"""What a drill tells."""

from __future__ import annotations

from msgspec import Struct

from stack.drill.alarms import Heard

#: Ticks a second that the desk is given: the first of these that it decides with time to spare on this machine.
RATES_HZ = (500.0, 350.0, 250.0, 175.0, 120.0)
#: Of them must have been decided: else nothing was shown.
LEAST_OF_RATE = 0.95
#: While faults are made: a desk at the edge of its speed alarms for that too, and nobody could tell the two apart.
FAULTS_OF_RATE = 0.5
#: A killed process answers again, and ticks are decided by the model again, within.
RECOVERY_GOAL_S = 10.0
#: MLflow imports for ten seconds on two busy cores; nothing of a trading day waits for it.
SLOW_TO_ANSWER_S = {"mlflow": 30.0}
#: The webhook is told so soon after a critical alert's rule fired; warnings are gathered for ten seconds before.
TOLD_GOAL_S = {"critical": 5.0, "warning": 15.0}


class FaultTold(Struct, frozen=True):
    """A fault, and the alerts that it caused."""

    fault: str
    heard: list[Heard]
    #: By alert, where it is later than what its severity promises.
    late: list[str]
    #: Alerts that look back for so many minutes: they need not have cleared.
    lasting_min: float = 0.0
    #: Why it could not be made, or mended.
    problem: str = ""

    @property
    def ok(self) -> bool:
        """All fired, somebody was told in time, and they cleared."""
        cleared = all(one.cleared_s is not None for one in self.heard) or self.lasting_min > LONGEST_WAIT_MIN
        return all(one.ok for one in self.heard) and cleared and not self.late and not self.problem


#: So long a drill waits for alerts that look back.
LONGEST_WAIT_MIN = 11.0


class Recovery(Struct, frozen=True):
    """A process that was killed: seconds until ticks were decided again, and until it answered; or None."""

    process: str
    decided_s: float | None
    ready_s: float | None

    @property
    def ok(self) -> bool:
        """Both in time."""
        if self.decided_s is None or self.ready_s is None:
            return False
        goal_s = SLOW_TO_ANSWER_S.get(self.process, RECOVERY_GOAL_S)
        return self.decided_s <= RECOVERY_GOAL_S and self.ready_s <= goal_s


class Counted(Struct, frozen=True):
    """What became of every tick of the drill."""

    ticks: int
    decisions: int
    letters: int
    missing: int
    repeated: int
    disordered: int

    @property
    def ok(self) -> bool:
        """Each has one decision or one dead letter, in the order of its log."""
        return self.ticks > 0 and not (self.missing or self.repeated or self.disordered)


#: Ticks that a desk is put aside with.
UNDECIDED = 400


class Restored(Struct, frozen=True):
    """The desk that was put aside, against the one that was restored from it.

    Attributes:
        decisions: that were compared, byte for byte but for their times.
        undecided: ticks among them that lay undecided when it was put aside.
        different: decisions that are not the same, or of which only one desk knows.
        verified: whether the restored trail is what was signed.
        backup_mb, backup_s, restore_s: how much, and how long.
    """

    decisions: int
    undecided: int
    different: int
    verified: bool
    backup_mb: float
    backup_s: float
    restore_s: float

    @property
    def ok(self) -> bool:
        """The same decisions."""
        return self.verified and self.decisions > self.undecided == UNDECIDED and not self.different


class DrillReport(Struct, frozen=True):
    """All of it.

    Attributes:
        rate_hz: ticks a second that it was given; fewer than the first of `RATES_HZ` on a slow machine.
        healthy_s: how long a healthy desk was watched.
        healthy_per_s: ticks a second that it decided in that time.
        alarmed: alerts that fired in that time: none should.
        faults: each with its alerts.
        recoveries: of processes that were killed.
        counted: None where only some faults were asked for, as `restored`.
        availability: share of the drill in which each process answered.
        left_out: faults that could not be made here, and why.
        problems: steps that failed, and why.
        seconds: in all.
    """

    rate_hz: float
    healthy_s: float
    healthy_per_s: float
    alarmed: list[str]
    faults: list[FaultTold]
    recoveries: list[Recovery]
    counted: Counted | None
    restored: Restored | None
    availability: dict[str, float]
    left_out: list[str]
    problems: list[str]
    seconds: float

    @property
    def healthy(self) -> bool:
        """The desk decided what it was given, and nobody was alarmed."""
        loaded = not self.healthy_s or self.healthy_per_s >= LEAST_OF_RATE * self.rate_hz
        return loaded and not self.alarmed

    @property
    def ok(self) -> bool:
        """Every part is."""
        parts = [*self.faults, *self.recoveries, *(one for one in (self.counted, self.restored) if one is not None)]
        return self.healthy and not self.problems and all(part.ok for part in parts)

    def alerts(self) -> list[tuple[str, str, str, str, str, str]]:
        """A line an alert: fault, alert, fired, told and cleared after so long, verdict."""
        return [
            (told.fault, one.alert, seconds(one.fired_s), who(one), seconds(one.cleared_s), verdict(ok=told.ok))
            for told in self.faults
            for one in told.heard
        ]

    def killed(self) -> list[tuple[str, str, str, str, str]]:
        """A line a process: decided and answered after so long, share of the time in which it answered, verdict."""
        shares = {name: f"{share:.2%}" for name, share in self.availability.items()}
        return [
            (r.process, seconds(r.decided_s), seconds(r.ready_s), shares.get(r.process, ""), verdict(ok=r.ok))
            for r in self.recoveries
        ]

    def sentences(self) -> list[str]:
        """All the rest."""
        alarmed = ", ".join(self.alarmed) or "nobody was alarmed"
        given = f"{self.healthy_per_s:.0f} of {self.rate_hz:.0f} ticks/s decided"
        lasted = f"{self.healthy_s / 60:.1f} min under load, {given}"
        if self.rate_hz < RATES_HZ[0]:
            lasted += f": this machine has no time to spare at more, {RATES_HZ[0]:.0f} are usual"
        found = [f"healthy ({lasted}): {alarmed}: {verdict(ok=self.healthy)}"]
        if (sums := self.counted) is not None:
            lost = f"{sums.missing} missing, {sums.repeated} repeated, {sums.disordered} out of order"
            became = f"{sums.decisions:,} decisions, {sums.letters:,} dead letters, {lost}"
            found.append(f"{sums.ticks:,} messages: {became}: {verdict(ok=sums.ok)}")
        if (again := self.restored) is not None:
            took = f"{again.backup_mb:,.0f} MB in {again.backup_s:.0f} s, restored in {again.restore_s:.0f} s"
            same = f"{again.different} of {again.decisions:,} decisions differ ({again.undecided} lay undecided)"
            signed = f"the trail is {'' if again.verified else 'not '}what was signed"
            found.append(f"put aside: {took}: {same}, {signed}: {verdict(ok=again.ok)}")
        found += [f"{told.fault}: {told.problem}" for told in self.faults if told.problem]
        found += [f"{told.fault}: told late: {', '.join(told.late)}" for told in self.faults if told.late]
        found += [f"failed: {problem}" for problem in self.problems]
        return [*found, *(f"not made: {what}" for what in self.left_out)]


def seconds(value: float | None) -> str:
    """Or that it never was."""
    return "never" if value is None else f"{value:.1f}"


def who(one: Heard) -> str:
    """How late somebody was told, or what kept it silent."""
    return f"by {', '.join(one.silenced_by)}" if one.told is None and one.silenced_by else seconds(one.told)


def verdict(*, ok: bool) -> str:
    """One word."""
    return "held" if ok else "broken"

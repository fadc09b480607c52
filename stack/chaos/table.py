"""What chaos tells: a line a fault."""

from __future__ import annotations

from msgspec import Struct

from stack.chaos.evidence import LogComparison, Span
from stack.chaos.feed import Progress
from stack.chaos.servers import ServerFaults
from stack.servers.settings import StackSettings


class Trial(Struct, frozen=True):
    """What rows are made on.

    Attributes:
        settings: of a stack that is up and serves a released model.
        series: begins the names of all topics.
        seed: of the ticks.
        servers: of the stack, to be hurt.
        progress: told what is being done.
    """

    settings: StackSettings
    series: str
    seed: int
    servers: ServerFaults
    progress: Progress


class FaultRow(Struct, frozen=True):
    """A line of the table. `recovery_s` is from the fault to decisions by the model in all partitions."""

    fault: str
    times: int
    verdict: LogComparison
    recovery_s: float | None
    goal_s: float | None
    compared: str

    @property
    def ok(self) -> bool:
        """Nothing lost, and back in time."""
        late = self.recovery_s is not None and self.goal_s is not None and self.recovery_s > self.goal_s
        return self.verdict.ok and not late


class ChaosReport(Struct, frozen=True):
    """All of it. Restart times are from the process's start to its first decision, in seconds."""

    rows: list[FaultRow]
    restart_p50_s: float
    restart_max_s: float
    seconds: float

    @property
    def ok(self) -> bool:
        """Every row is."""
        return all(row.ok for row in self.rows)


class Injected(Struct, frozen=True):
    """A fault that was made, and the span of ticks that came meanwhile."""

    fault: str
    times: int
    span: Span
    recovery_s: float | None
    goal_s: float | None


def row(injected: Injected, verdict: LogComparison, compared: str) -> FaultRow:
    """A fault and what came of it."""
    return FaultRow(injected.fault, injected.times, verdict, injected.recovery_s, injected.goal_s, compared)

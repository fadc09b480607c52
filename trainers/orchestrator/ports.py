"""What the orchestrator needs of the world: who starts a step, what keeps its memory, and how the desk is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from trainers.orchestrator.admission import Need, Pool
from trainers.orchestrator.runs import Attempt, RunRequest
from trainers.orchestrator.triggers import Kind


class StepTask(Struct, frozen=True):
    """A step that is to be started: of which run, with which fence, and what it was promised."""

    run: str
    fence: int
    step: str
    need: Need


class Seen(Struct, frozen=True):
    """What is seen of a step that was started.

    Attributes:
        lives: whether it runs, or may run yet.
        exit_code: where it has ended, and whoever started it is told; negative: by a signal.
        out_of_memory: whether it was ended for want of memory; None where nobody can tell.
        peak_mb: of memory, that was seen.
        why: what else is known of its end; "" for nothing.
        began: whether its process runs; false where a cluster has not found a place for it yet.
    """

    lives: bool
    exit_code: int | None = None
    out_of_memory: bool | None = None
    peak_mb: int | None = None
    why: str = ""
    began: bool = True


class Executor(Protocol):
    """Starts steps, somewhere. A reference names a step that it started, also to an executor of a later process."""

    @property
    def pool(self) -> Pool:
        """Whose memory its steps take."""

    @property
    def holder(self) -> str:
        """Names the process that starts steps by it, as long as that lives; "" where it makes no difference."""

    def is_held(self, holder: str) -> bool:
        """Whether that process lives, here, and watches what it has started."""

    def start(self, task: StepTask) -> str:
        """Start a step; its reference. Raises ServiceUnavailable where that cannot be done now."""

    def owns(self, reference: str) -> bool:
        """Whether this one can look at it: it runs here."""

    def adopt(self, attempt: Attempt) -> None:
        """Watch what an earlier process has started, its ceiling too."""

    def look(self, reference: str) -> Seen:
        """How it is. Raises ServiceUnavailable where nobody can tell."""

    def stop(self, reference: str) -> None:
        """End it, and all that it started; nothing where it has ended. Raises ServiceUnavailable."""

    def pause(self, reference: str, *, paused: bool) -> bool:
        """Have it stand still, or go on; false where that cannot be done."""

    def free_mb(self) -> int | None:
        """What the machine has left now, in MB; None where nobody can tell."""

    def log(self, run: str, fence: int) -> Iterator[str]:
        """The lines that a step has printed. Raises ConfigurationError where they are not kept."""

    def forget(self, run: str) -> None:
        """Delete what a run's steps have printed."""


class Ceilings(Protocol):
    """Groups of the kernel's, which keep a ceiling of memory, and what share of the processors is theirs."""

    def place(self, name: str, pid: int, limit_mb: int, *, yields: bool = False) -> bool:
        """Put a process that was just started into a group; false where the kernel refuses.

        What `yields` gets what others leave of the processors, where the kernel keeps such a share.
        """

    def kills(self, name: str) -> int | None:
        """How many of its processes the kernel has ended for want of memory; None where there is no such group."""

    def remove(self, name: str) -> None:
        """Take the group away, if nobody lives in it."""


class Happening(Struct, frozen=True):
    """Something that may begin a run.

    Attributes:
        kind: of trigger.
        key: of what happened: the same is ruled on once.
        request: of the run.
        detail: what was seen, in plain values.
    """

    kind: Kind
    key: str
    request: RunRequest
    detail: Any


class Sensor(Protocol):
    """Looks at something that changes."""

    def look(self, now: datetime) -> Sequence[Happening]:
        """What happened; the same may be told again and again. Raises UltraThinkError where it cannot be seen."""


class Desk(Protocol):
    """How the desk is that steps yield to."""

    def p99_ms(self) -> float | None:
        """Of the ticks of the last seconds; None where nothing is decided, infinite where it is too busy to say."""


class Keeping(Protocol):
    """What became of what runs have made."""

    def forget(self, dataset: str) -> None:
        """Delete a dataset that a run has built, and that no other names; one that somebody gave it stays."""

    def kept(self) -> Sequence[str]:
        """Runs whose models serve, or served. Raises ServiceUnavailable where nobody can tell: then none is
        deleted.
        """

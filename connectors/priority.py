"""How far a process yields to others, also where Linux shares the processor among sessions first.

With `sched_autogroup` (usual, outside of containers) every session has a share of the processor of its own, and
what `nice` says counts within a session alone: a process that began one of its own yields to nobody, however nice
it is, until its session is told so too (sched(7)).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

#: How often a process tells its own session, where others are told meanwhile.
TRIES, AGAIN_S = 30, 0.11


def yield_to_others(nice: int) -> None:
    """From now on this process yields so far more than now; and all of its session, where it leads that.

    Args:
        nice: 0 (no more than now) to 19.
    """
    told = os.nice(nice)
    # Of a terminal's session others are a part, too.
    if not nice or os.getsid(0) != os.getpid():
        return
    for _ in range(TRIES):
        if yield_session(os.getpid(), told):
            return
        time.sleep(AGAIN_S)


def yield_to_all() -> None:
    """From now on this thread, and what it starts, gives its processor up to whoever else wants it (sched(7)).

    Who is merely nice ends its turn first. Where sessions or groups share the processors, it counts within its own.
    """
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def yield_session(pid: int, nice: int) -> bool:
    """The session of a process yields so far; returns whether it need not be told again.

    It must be where others than root have told more than ten a second, all users together. It need not where there
    are no such shares, or where the process is gone or is another user's.
    """
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True

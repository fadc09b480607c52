"""How far a process yields to others, also where Linux shares the processor among sessions first.

With `sched_autogroup` (usual, outside of containers) every session has a share of the processor of its own, and
what `nice` says counts within a session alone: a process that began one of its own yields to nobody, however nice
it is, until its session is told so too (sched(7)).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

#: Who is not root may tell ten sessions a second, all users together.
TRIES, AGAIN_S = 20, 0.11


def yield_to_others(nice: int) -> None:
    """From now on this process yields so far; and all of its session, where it leads that.

    Args:
        nice: 0 (not at all) to 19.
    """
    os.nice(nice)
    # Of a terminal's session others are a part, too.
    if os.getsid(0) == os.getpid():
        yield_session(os.getpid(), nice)


def yield_session(pid: int, nice: int) -> bool:
    """The session of a process yields so far; returns whether it was told.

    It is not where there are no such shares, or where the process is gone or is another user's.
    """
    for _ in range(TRIES):
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(nice))
        except BlockingIOError:
            time.sleep(AGAIN_S)
        except OSError:
            return False
        else:
            return True
    return False

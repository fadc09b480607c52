"""Commands that end what they began before their caller goes, whoever interrupts it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

#: So long a command that is interrupted may take its servers down.
ENDS_S = 180.0


def printed(
    command: Sequence[str | Path],
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    shown: bool = False,
    ends_s: float = ENDS_S,
) -> tuple[int, bytes]:
    """A command's exit code, and what it printed; `shown`: on stderr.

    Interrupted, it is told so once, and has `ends_s` seconds for it: Ctrl-C at a terminal reaches its caller alone,
    or the clean-up that the first signal began would be broken off by a second one.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=sys.stderr if shown else subprocess.PIPE,
        start_new_session=True,
    )
    try:
        told, _ = process.communicate()
    except KeyboardInterrupt:
        process.terminate()
        try:
            process.communicate(timeout=ends_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        raise
    return process.returncode, told or b""

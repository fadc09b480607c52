"""A gateway's lasting name: the group and the transactions know a restarted gateway by it.

The lowest number on this machine that no living gateway of the same group holds. The lock on its
file ends with the process, however it ends, so that a restart takes the same number again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import tempfile
from pathlib import Path
from typing import IO

from trading.errors import ConfigurationError

LARGEST = 256


class Instance:
    """Holds the name for as long as the process lives."""

    def __init__(self, cluster: str, group: str, name: str = "") -> None:
        """Take a name.

        Args:
            cluster: broker addresses.
            group: consumer group.
            name: a chosen name; "" takes host and number.

        Raises:
            ConfigurationError: the chosen name is held by a gateway on this machine.
        """
        folder = Path(tempfile.gettempdir()) / f"ultrathink-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise ConfigurationError(f"{folder} belongs to another user: set TMPDIR, or --instance")
        scope = hashlib.blake2b(f"{cluster} {group}".encode(), digest_size=6).hexdigest()
        host = socket.gethostname()
        names = [name] if name else [f"{host}-{number}" for number in range(LARGEST)]
        for candidate in names:
            digest = hashlib.blake2b(candidate.encode(), digest_size=8).hexdigest()
            file = (folder / f"{scope}-{digest}.lock").open("a")
            if locked(file):
                self.name, self._file = candidate, file
                return
            file.close()
        raise ConfigurationError(
            f"a gateway named {name!r} already runs on this machine: give this one another --instance"
            if name
            else f"{LARGEST} gateways of group {group} run on this machine: give this one an --instance"
        )

    def close(self) -> None:
        """Let the name go."""
        self._file.close()


def locked(file: IO[str]) -> bool:
    """Whether the lock could be had at once."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

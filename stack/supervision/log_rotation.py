"""Logs that grow no further than they may: by size and age, whoever holds them open."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

LOOK_S = 10.0
#: Of a log, besides the one that is written.
KEEP = 5
#: A log that is not empty is begun anew after so long.
FRESH_S = 86_400.0
MB = 2**20


class LogRotation:
    """Copies a log aside and empties it in place: those who write it append, and need not be told."""

    def __init__(self, folder: Path, most_mb: int, most_days: float) -> None:
        """Look now and then, in the thread of whoever calls `look`.

        Args:
            folder: of the logs, NAME.log; older ones are NAME.log.1 (the newest) to NAME.log.5.
            most_mb: of one log.
            most_days: after which what was put aside is deleted.
        """
        self._folder, self._most_bytes, self._most_s = folder, most_mb * MB, most_days * 86_400.0
        self._next_s = 0.0
        #: Since when a log is written: file systems do not tell when a file was made.
        self._since: dict[str, float] = {}
        self.problem = ""

    def look(self, now_s: float) -> None:
        """See which logs are due, at monotonic time `now_s`."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + LOOK_S
        self.problem = ""
        for path in sorted(self._folder.glob("*.log")):
            try:
                self._look_at(path, now_s)
            except OSError as error:
                self.problem = f"{path} cannot be rotated: {error.strerror}"
        with contextlib.suppress(OSError):
            for path in self._folder.glob("*.log.[0-9]*"):
                if time.time() - path.stat().st_mtime > self._most_s:
                    path.unlink()

    def _look_at(self, path: Path, now_s: float) -> None:
        size = path.stat().st_size
        since = self._since.setdefault(path.name, now_s)
        if size > self._most_bytes or (size and now_s - since > FRESH_S):
            if shutil.disk_usage(self._folder).free < 4 * min(size, 2 * self._most_bytes):
                self.problem = f"there is no room to put {path.name} aside"
                return
            rotate(path, most_bytes=2 * self._most_bytes)
            self._since[path.name] = now_s


def rotate(path: Path, keep: int = KEEP, most_bytes: int | None = None) -> None:
    """Put what a log holds aside and go on with an empty one.

    Of one that grew beyond `most_bytes` while nobody looked the end is kept.

    Between the last byte that is copied and the emptying lies no time but that of two calls.

    Raises:
        OSError: there is no room for the copy; the log is as it was.
    """
    aside = [path.with_name(f"{path.name}.{k}") for k in range(1, keep + 1)]
    partial = path.with_name(f"{path.name}.partial")
    try:
        with path.open("rb") as source, partial.open("wb") as target:
            if most_bytes is not None:
                source.seek(max(0, source.seek(0, os.SEEK_END) - most_bytes))
            shutil.copyfileobj(source, target)
            # What was written meanwhile; and all of it lies on the disk before a byte is taken from the log.
            target.flush()
            shutil.copyfileobj(source, target)
            target.flush()
            os.truncate(path, 0)
        for older, newer in zip(reversed(aside), reversed(aside[:-1]), strict=False):
            if newer.exists():
                newer.replace(older)
        partial.replace(aside[0])
    except OSError:
        partial.unlink(missing_ok=True)
        raise

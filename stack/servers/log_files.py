"""Where logs lie, and their ends."""

from __future__ import annotations

import os
from pathlib import Path

from trading.errors import ConfigurationError


def log_path(home: Path, service: str) -> Path:
    """A service's log."""
    return home / "logs" / f"{service}.log"


def find_log(home: Path, service: str) -> Path:
    """A service's log that is there. Raises ConfigurationError, naming those that are."""
    known = sorted(path.stem for path in (home / "logs").glob("*.log"))
    if service not in known:
        raise ConfigurationError(
            f"no log of {service!r} in {home / 'logs'}; there are: {', '.join(known) or 'none yet'}"
        )
    return log_path(home, service)


def tail(path: Path, lines: int = 20, before: int | None = None) -> list[str]:
    """The last lines of a log, or of its first `before` bytes; empty when there is none."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END) if before is None else before
            begin = file.seek(max(0, end - 64 * 1024))
            return file.read(end - begin).decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []

"""Passwords that are made for a home folder and never leave it."""

from __future__ import annotations

import secrets
from pathlib import Path

from trading.files import write_atomically


def ensure_secret(home: Path, name: str) -> str:
    """The named password, made at the first call; readable by its owner only."""
    path = home / "secrets" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        write_atomically(path, secrets.token_urlsafe(24), mode=0o600)
    return path.read_text()

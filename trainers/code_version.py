"""Which code this is."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from trading.compiled import sources_digest


def git_commit() -> str:
    """The commit that is checked out, with "+" where files have changed; "unknown" outside a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except FileNotFoundError:
        return "unknown"
    return f"{commit}{'+' if changed else ''}" if commit else "unknown"


def digest() -> str:
    """Of every file that a training's result depends on: the trainers' and what decides."""
    whole = hashlib.sha256(sources_digest().encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:16]

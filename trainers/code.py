"""Which code this is."""

from __future__ import annotations

import subprocess
from pathlib import Path


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

"""Where a repository's own state lies: beside it, because Triton reads every folder within it."""

from __future__ import annotations

from pathlib import Path


def state_folder(root: Path) -> Path:
    """Of the repository at a path, which is resolved."""
    return root.parent / f".{root.name}.ultrathink"


def store_folder(root: Path) -> Path:
    """TorchServe's model store, a flat folder of archives, of the repository at a path, which is resolved."""
    return root.parent / f"{root.name}.store"


def journal_path(root: Path) -> Path:
    """Of the journal of releases."""
    return state_folder(root.expanduser().resolve()) / "journal.jsonl"

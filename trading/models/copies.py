"""Names of versions that are loaded beside what is served, under another name than their own."""

from __future__ import annotations

#: What such a name has behind the model's own; who finds one whose lock nobody holds may unload it.
RECALLED = "--recalled"


def recalled_suffix(version: int, kept_for: str = "") -> str:
    """Behind a model's name; `kept_for` is what it is held open for, where that takes long."""
    return f"{RECALLED}-{version}{f'-{kept_for}' if kept_for else ''}"


def challenger_name(model: str, version: int, experiment: str) -> str:
    """What a challenger that is not served answers to, while its experiment runs."""
    return model + recalled_suffix(version, kept_for_experiment(experiment))


def kept_for_experiment(experiment: str, arm: str = "") -> str:
    """Of its name, and of one of its arms: what names cannot hold keeps ("a", "b-c") from being ("a-b", "c")."""
    return f"experiment.{experiment}" + (f".{arm}" if arm else "")

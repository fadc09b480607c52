"""Examples that are run as they stand, and the files that they name."""

from __future__ import annotations

from pathlib import Path

#: A command's words -> what its example's answer holds.
RUN: dict[tuple[str, ...], str] = {
    ("risk", "limits", "show"): "resolved for BTCUSDT",
    ("risk", "limits", "check"): "limits.yaml",
    ("risk", "limits", "diff"): "max_order_notional",
    ("risk", "rules"): "| `kill_switch` |",
    ("risk", "schema"): '"max_order_notional"',
    ("risk", "check"): "accepted: every rule passes",
    ("kafka", "roles"): "gateway",
    ("runbook",): "NoDecisions",
    ("experiment", "schema"): '"properties"',
    ("stack", "enable"): "[Service]",
}
#: Of those that answer with more than 0: two files that differ.
EXIT_CODES = {("risk", "limits", "diff"): 1}
LIMITS = "defaults: {max_order_notional: %s}\n"


def prepare(folder: Path) -> None:
    """Files that examples name, in a folder that is the current one."""
    for name, notional in (("limits.yaml", 20_000), ("old.yaml", 10_000), ("new.yaml", 30_000)):
        (folder / name).write_text(LIMITS % notional)

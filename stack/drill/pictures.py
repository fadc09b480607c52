"""A board as a picture: each panel's queries, answered by Prometheus over the time of a drill."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from stack.watching.boards import Board, Panel, over

STEP_S, COLUMNS, WINDOW = 5, 2, "30s"
UNITS = {"s": "seconds", "ops": "a second", "percentunit": "share", "currencyUSD": "US dollars", "bytes": "bytes"}


class Asked(Protocol):
    """What answers: Alarms."""

    def ask_range(self, expression: str, since_s: float, until_s: float, step_s: int) -> list[dict[str, Any]]:
        """The answers to an expression between two moments of wall time. Raises ServiceUnavailable."""


def draw(board: Board, asked: Asked, since_s: float, until_s: float, path: Path) -> None:
    """Write a PNG. Raises ServiceUnavailable where Prometheus does not answer."""
    from matplotlib.figure import Figure

    rows = -(-len(board.panels) // COLUMNS)
    figure = Figure(figsize=(12.0, 2.6 * rows + 0.6), layout="constrained", dpi=80)
    figure.suptitle(board.title)
    for panel, axes in zip(board.panels, figure.subplots(rows, COLUMNS, squeeze=False).flat, strict=False):
        plot(panel, axes, asked, since_s, until_s)
    for axes in figure.axes[len(board.panels) :]:
        axes.remove()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def plot(panel: Panel, axes: Any, asked: Asked, since_s: float, until_s: float) -> None:
    """One panel: a line a series, and its target."""
    axes.set_title(panel.title, fontsize=9, loc="left")
    axes.set_ylabel(UNITS.get(panel.unit, ""), fontsize=8)
    axes.tick_params(labelsize=7)
    for query in panel.queries:
        for series in asked.ask_range(over(query, WINDOW), since_s, until_s, STEP_S):
            times = [datetime.fromtimestamp(at_s, UTC) for at_s, _ in series["values"]]
            name = legend(query.legend, series["metric"])
            if "==" in query.expr:
                # A comparison says whom it holds for, and not how much.
                axes.plot(times, [name] * len(times), "|", markersize=8)
                continue
            values = [float(value) for _, value in series["values"]]
            axes.plot(times, values, ".-", markersize=2, linewidth=0.8, label=name)
    if panel.target is not None:
        axes.axhline(panel.target, color="tab:red", linewidth=0.8, linestyle="--")
    axes.set_xlim(datetime.fromtimestamp(since_s, UTC), datetime.fromtimestamp(until_s, UTC))
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=6, loc="upper left", ncols=2)


def legend(form: str, labels: Mapping[str, str]) -> str:
    """What a series is called: `{{name}}` is a label's value."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), form) or ", ".join(labels.values())

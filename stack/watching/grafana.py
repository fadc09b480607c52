"""Boards as Grafana's own files, by its foundation SDK; made where the project is built, not where it runs."""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphTresholdsStyleMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

from stack.watching.boards import Board, Panel

#: Two panels a row of 24 columns.
WIDTH, HEIGHT = 12, 8
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
BUILDERS: dict[str, Any] = {"line": timeseries.Panel, "number": stat.Panel, "table": table.Panel}


def made(board: Board) -> str:
    """The JSON that Grafana is provisioned with."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(f"ultrathink-{board.uid}")
        .tags(["ultrathink"])
        .refresh("5s")
        .time("now-15m", "now")
        .readonly()
    )
    for one in board.panels:
        built = built.with_panel(panel_of(one))
    return (
        json.dumps(json.loads(JSONEncoder(sort_keys=True).encode(built.build())), indent=1, sort_keys=True) + "\n"
    )


def panel_of(one: Panel) -> Any:
    """One panel's builder."""
    panel = BUILDERS[one.kind]().title(one.title).datasource(SOURCE).unit(one.unit).span(WIDTH).height(HEIGHT)
    for name, query in zip("ABCDEF", one.queries, strict=False):
        asked = prometheus.Dataquery().ref_id(name).expr(query.expr).legend_format(query.legend)
        asked = asked.exemplar(True) if query.exemplars else asked
        panel = panel.with_target(asked.instant() if one.kind == "table" else asked)
    if one.target is not None:
        steps = [Threshold(value=None, color="green"), Threshold(value=float(one.target), color="red")]
        panel = panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        if one.kind == "line":
            style = common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.LINE)
            panel = panel.thresholds_style(style)
    return panel

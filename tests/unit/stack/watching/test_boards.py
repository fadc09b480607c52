"""Boards are whole: every panel has its place, its queries are told apart, and names are said once."""

from __future__ import annotations

import json

import pytest

from stack.watching.boards import BOARDS
from tests.paths import ROOT


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_what_is_checked_in_has_every_panel_and_query(board):
    made = json.loads((ROOT / f"deploy/grafana/dashboards/{board.uid}.json").read_text())
    assert made["uid"] == f"ultrathink-{board.uid}"
    assert [panel["title"] for panel in made["panels"]] == [panel.title for panel in board.panels]
    for panel, wanted in zip(made["panels"], board.panels, strict=True):
        assert [target["expr"] for target in panel["targets"]] == [query.expr for query in wanted.queries]
        assert len({target["refId"] for target in panel["targets"]}) == len(wanted.queries)
        assert panel["datasource"] == {"type": "prometheus", "uid": "prometheus"}
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
        assert (steps[-1]["value"] if steps else None) == wanted.target
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in made["panels"]}
    assert len(places) == len(board.panels)


def test_names_are_said_once():
    assert len({board.uid for board in BOARDS}) == len(BOARDS)
    for board in BOARDS:
        assert len({panel.title for panel in board.panels}) == len(board.panels)

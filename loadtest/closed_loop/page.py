"""Our gates on Locust's page: a tab with each goal, what is measured so far, and the verdict, while a test runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from loadtest.measuring.result import RunResult
from loadtest.report.texts import number

#: The tab, and its table, by the page's own name for both.
KEY = "gates"
COLUMNS = {
    "requests": "Requests", "figure": "Figure", "goal": "Goal", "measured": "Measured", "verdict": "Verdict",
}  # fmt: skip
#: A verdict as the page tells it: what proves nothing may prove something later.
WORDS = {"held": "held", "missed": "MISSED", "invalid": "proves nothing yet", "unjudged": "no goal"}
POLLED = "/stats/requests"


def extend(page: Any, results: Callable[[], Sequence[RunResult]]) -> None:
    """Add the tab; what it shows comes with what the page asks for every two seconds anyway.

    Args:
        page: Locust's web UI.
        results: judged so far.
    """
    structure = [{"key": key, "title": title} for key, title in COLUMNS.items()]
    page.template_args = {
        **page.template_args,
        "extended_tabs": [{"title": "Gates", "key": KEY}],
        "extended_tables": [{"key": KEY, "structure": structure}],
    }

    @page.app.after_request  # type: ignore[untyped-decorator]
    def with_gates(response: Any) -> Any:
        from flask import request

        if request.path == POLLED and response.status_code == 200:
            told = {**response.get_json(), "extended_stats": [{"key": KEY, "data": gates(results())}]}
            response.set_data(page.app.json.dumps(told))
        return response


def gates(results: Sequence[RunResult]) -> list[dict[str, str]]:
    """A row a kind of request with its verdict, and a row each of its goals."""
    found = []
    for result in results:
        found.append(row(result.target, "all goals" if result.checks else "", "", "", WORDS[result.verdict]))
        found += [
            row(result.target, one.name, one.goal, number(one.measured, one.unit), WORDS[one.verdict])
            for one in result.checks
        ]
    return found


def row(*cells: str) -> dict[str, str]:
    """As the page takes it."""
    return dict(zip(COLUMNS, cells, strict=True))

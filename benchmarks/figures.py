"""Figures beside their goals: told as they are measured, kept in benchmarks/results, and put into one table."""

from __future__ import annotations

import json
import math
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from loadtest.measuring.result import machine
from loadtest.report.texts import number
from trading.files import write_atomically

RESULTS = Path(__file__).resolve().parent / "results"
console = Console(width=118)


class BenchmarkFigure(Struct, frozen=True):
    """A line of the table; `goal` bounds `value` with the side that is good, `beside` says what it is of."""

    name: str
    value: float | None
    unit: str
    goal: str = ""
    reached: bool | None = None
    beside: str = ""


class BenchmarkPart(Struct, frozen=True):
    """What one benchmark found, when, where and of which commit; `details` are what its figures were taken from."""

    name: str
    title: str
    figures: list[BenchmarkFigure]
    measured_at: str
    commit: str
    machine: dict[str, str]
    details: dict[str, Any] = {}


class BenchmarkFigures:
    """Collects the figures of one benchmark."""

    def __init__(self, name: str, title: str) -> None:
        # As Ctrl-C: what was started is ended.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        self.name, self.title = name, title
        self.found: list[BenchmarkFigure] = []
        say(f"{title}:")

    def tell(
        self, name: str, value: float, unit: str, *, at_most: float | None = None, at_least: float | None = None,
        beside: str = "",
    ) -> None:  # fmt: skip
        """Keep a figure, and print it beside its goal. What was not measured (NaN) reaches no goal."""
        bound = at_most if at_most is not None else at_least
        reached = None
        if bound is not None:
            reached = not math.isnan(value) and (value < bound if at_most is not None else value > bound)
        goal = "" if bound is None else f"{'<' if at_most is not None else '>'} {bound:,g} {unit}".strip()
        self.found.append(
            BenchmarkFigure(name, value if math.isfinite(value) else None, unit, goal, reached, beside)
        )
        verdict = f" (goal {goal}: {'reached' if reached else 'missed'})" if goal else ""
        say(f"  {name}: {number(value, unit)}{verdict}{f'; {beside}' if beside else ''}")

    def save(self, details: dict[str, Any] | None = None) -> None:
        """Write benchmarks/results/NAME.json, and show the table."""
        kept = json.loads(msgspec.json.encode(details or {}))
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        part = BenchmarkPart(self.name, self.title, self.found, now, commit(), machine(), kept)
        write_atomically(RESULTS / f"{self.name}.json", msgspec.json.format(msgspec.json.encode(part)).decode())
        console.print(table(part))


def commit() -> str:
    """This checkout's, and whether it was changed."""
    done = subprocess.run(
        ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def say(text: str) -> None:
    print(text, flush=True)


def table(part: BenchmarkPart) -> Table:
    made = Table(title=part.title, title_justify="left", box=None, header_style="bold")
    for column, side in (("figure", "left"), ("measured", "right"), ("goal", "right"), ("", "left")):
        made.add_column(column, justify=side)  # type: ignore[arg-type]
    for f in part.figures:
        verdict = {None: "", True: "[green]reached[/]", False: "[red]missed[/]"}[f.reached]
        made.add_row(f.name, number(f.value, f.unit), f.goal, verdict)
    return made


def read(name: str) -> BenchmarkPart:
    """What a benchmark wrote."""
    return msgspec.json.decode((RESULTS / f"{name}.json").read_bytes(), type=BenchmarkPart)

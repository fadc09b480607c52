"""The health matrix, and what is to be said beneath it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from stack.cli.output import coloured, state_text, table
from stack.supervision.status import WAITING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stack.supervision.status import ServiceStatus, StackStatus

#: Share of its ceiling from which a process's memory is coloured.
NEAR = 0.9


def matrix(status: StackStatus) -> Table:
    """Of a stack."""
    return table_of(status.services)


def table_of(services: Sequence[ServiceStatus]) -> Table:
    """State, version, endpoint, memory beside its ceiling, CPU, and how often each was there."""
    rows = [
        [
            s.name,
            coloured("yellow", "degraded") if s.degraded else state_text(s.state),
            s.version,
            s.endpoint,
            memory(s),
            f"{s.cpu_percent:.0f}%",
            span(s.uptime_s),
            str(s.restarts),
            f"{share(s.hour)} {share(s.day)}",
            s.last_exit or s.detail[:60],
        ]
        for s in services
    ]
    columns = [
        "service",
        "state",
        "version",
        "endpoint",
        "MB",
        "CPU",
        "uptime",
        "restarts",
        "up 1 h, 24 h",
        "last exit",
    ]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return table("", columns, rows, right=(4, 5, 6, 7, 8))


def memory(service: ServiceStatus) -> str:
    """Beside its ceiling."""
    text = f"{service.memory_mb:.0f}/{service.memory_limit_mb}"
    return coloured("red", text) if service.memory_mb >= NEAR * service.memory_limit_mb else text


def span(seconds: float) -> str:
    """So long, in the two largest units."""
    minutes, s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {s} s" if minutes else f"{s} s"


def share(value: float | None) -> str:
    """Of a time; nothing rounds up to all of it."""
    if value is None:
        return "-"
    return "100%" if value >= 1.0 else f"{min(value, 0.9999):.2%}"


def remarks(status: StackStatus) -> Iterator[str]:
    """Lines of markup: who waits, what is degraded because of whom, and what is wrong with the machine."""
    yield from remarks_of(status.services)
    for problem in status.problems:
        yield f"[red]{escape(problem)}[/]"


def remarks_of(services: Sequence[ServiceStatus]) -> Iterator[str]:
    """Who waits, who is degraded, and who does not answer."""
    for s in services:
        if s.held and s.state == WAITING:
            yield f"[yellow]{escape(s.name)} waits: {escape(s.held)}[/]"
        elif s.degraded:
            yield f"[yellow]{escape(s.name)} is degraded: {escape('; '.join(s.degraded))}[/]"
        elif s.last_exit and s.detail:
            yield f"[yellow]{escape(s.name)}: {escape(s.detail)}[/]"

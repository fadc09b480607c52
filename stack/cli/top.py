"""The live view of `ultrathink gateway top`, made of two scrapes."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text

from stack.cli.output import table
from stack.processes.scrape import Scrape, quantile_ms


def shown(ms: float) -> str:
    """A latency for people."""
    return "-" if math.isnan(ms) else "> 1000" if math.isinf(ms) else f"{ms:g}"


def view(before: Scrape, now: Scrape) -> RenderableType:
    """What is on the screen."""
    seconds = max(1e-9, now.at_s - before.at_s)
    status = now.status

    def rate(name: str, **labels: str) -> float:
        return (now.value(name, **labels) - before.value(name, **labels)) / seconds

    ready = "[green]ready[/]" if status["ready"] else f"[red]not ready[/]: {escape('; '.join(status['problems']))}"
    head = (
        f"{status['instance']} of {status['group']}, {status['delivery']}, {status['model']}: {ready}\n"
        f"desk {status['trading_state']}, breaker {status.get('breaker', 'not used yet')}, partitions "
        f"{', '.join(map(str, status['partitions'])) or 'none'}\n"
        f"{rate('gateway_ticks_total'):,.0f} ticks/s, {rate('gateway_inference_rows_total'):,.0f} rows/s asked, "
        f"{rate('gateway_dead_letters_total'):,.1f} dead letters/s, "
        f"{now.value('gateway_unfinished_ticks'):,.0f} unfinished"
    )
    stages = [
        [stage, *(shown(quantile_ms(before, now, "gateway_stage_seconds", q, stage=stage)) for q in (0.5, 0.99))]
        for stage in ("queue", "features", "inference", "decide", "publish")
    ]
    for title, name in (
        ("sent to decided", "gateway_tick_seconds"),
        ("received to published", "gateway_handled_seconds"),
    ):
        stages.append([title, *(shown(quantile_ms(before, now, name, q)) for q in (0.5, 0.99))])
    outcomes = [
        (
            rate("gateway_decisions_total", **dict(labels)),
            *(dict(labels)[k] for k in ("variant", "action", "reason")),
        )
        for name, labels in now.samples
        if name == "gateway_decisions_total"
    ]
    lines = [[*map(str, names), f"{count:,.1f}"] for count, *names in sorted(outcomes, reverse=True)]
    return Group(
        Text.from_markup(head),
        Text(),
        table("", ["stage", "p50 ms <", "p99 ms <"], stages, right=(1, 2)),
        Text(),
        table("", ["arm", "action", "reason", "a second"], lines, right=(3,)),
        *denied(before, now),
    )


def denied(before: Scrape, now: Scrape) -> list[RenderableType]:
    """The rules behind what was denied; nothing where none was."""
    seconds, name = max(1e-9, now.at_s - before.at_s), "gateway_denials_total"
    rows = [
        [
            dict(labels)["rule"],
            f"{(count - before.samples.get((found, labels), 0.0)) / seconds:,.1f}",
            f"{count:,.0f}",
        ]
        for (found, labels), count in now.samples.items()
        if found == name and count
    ]
    return [Text(), table("", ["denied by", "a second", "since the start"], rows, right=(1, 2))] if rows else []

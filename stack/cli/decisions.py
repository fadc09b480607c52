"""`ultrathink decisions`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from stack.cli.output import Marked, coloured, err, out, print_json, table

if TYPE_CHECKING:
    from stack.workflows.decided import Wanted
    from trading.decision.schema import Decision

app = typer.Typer(
    no_args_is_help=True, help="What the desk decided: the last, the next, and one with its evidence."
)

SymbolOption = Annotated[str, typer.Option(help="Only this instrument.")]
ActionOption = Annotated[str, typer.Option(help="Only buy, sell or hold.")]
ReasonOption = Annotated[str, typer.Option(help="Only for this reason, as denied, or this rule, as leverage.")]
ArmOption = Annotated[str, typer.Option(help="Only of this arm of an experiment.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout; of a tail one line each.")]
UNREAD = "messages there are no decisions that this version can read: is a newer gateway at work?"
COLUMNS = ("UTC", "symbol", "action", "why", "quantity", "price", "holds", "target", "arm", "model", "ms", "id")
RIGHT, WIDTHS = (4, 5, 6, 7, 10), (18, 10, 4, 21, 10, 10, 10, 10, 10, 26, 6, 0)
COLOURS = {"buy": "green", "sell": "red", "hold": "white"}


@app.command("list", epilog="Example: ultrathink decisions list --last 20 --symbol BTCUSDT --reason denied")
def list_decisions(
    last: Annotated[int, typer.Option(min=1, max=100_000, help="So many.")] = 20,
    symbol: SymbolOption = "",
    action: ActionOption = "",
    reason: ReasonOption = "",
    arm: ArmOption = "",
    json: Json = False,
) -> None:
    """The last decisions, oldest first, with the id by which others are asked for them."""
    from stack.workflows.decided import latest

    (bootstrap, topic), which = place(), asked(symbol, action, reason, arm)
    with err.status(f"reading {topic}"):
        found = latest(bootstrap, topic, last, which)
    if json:
        print_json(found.records)
    else:
        out.print(table("", list(COLUMNS), [line(one) for one in found.records], right=RIGHT))
        if not found.records:
            err.print(f"{topic} holds no such decision", markup=False)
    if found.unread:
        err.print(f"{found.unread:,} {UNREAD}", markup=False)


@app.command(epilog="Example: ultrathink decisions tail --action buy")
def tail(
    symbol: SymbolOption = "",
    action: ActionOption = "",
    reason: ReasonOption = "",
    arm: ArmOption = "",
    most: Annotated[int | None, typer.Option(min=1, help="End after so many; default: never.")] = None,
    json: Json = False,
) -> None:
    """Decisions as they are made, until Ctrl-C."""
    import itertools
    import sys

    from stack.workflows.decided import follow

    (bootstrap, topic), which = place(), asked(symbol, action, reason, arm)
    told = follow(bootstrap, topic, which)
    for one in itertools.islice(told, most):
        if one is None:
            err.print(f"1 {UNREAD}", markup=False)
        elif json:
            sys.stdout.write(msgspec.json.encode(one).decode() + "\n")
            sys.stdout.flush()
        else:
            out.print(flat(one), soft_wrap=True)


@app.command(epilog="Example: ultrathink decisions show market.ticks-0-4711")
def show(
    decision: Annotated[str, typer.Argument(help="Its id, TOPIC-PARTITION-OFFSET of its tick, or a file.")],
    json: Json = False,
) -> None:
    """One decision with its whole evidence; `risk explain` tells it in words."""
    from stack.cli.risk.orders import find_decision
    from trading.features.definitions import FEATURES

    one: Decision = find_decision(decision)
    if json:
        print_json(one)
        return
    told: dict[str, Any] = msgspec.to_builtins(one)
    plain = [[name, shown(value)] for name, value in told.items() if not isinstance(value, list | dict)]
    out.print(table(one.decision_id, ["field", "value"], plain))
    if one.verdict is not None:
        verdict = one.verdict
        result = {True: coloured("green", "passed"), False: coloured("red", "broken")}
        rows = [[r.rule, result[r.passed], shown(r.value), shown(r.limit)] for r in verdict.results]
        out.print(table(f"risk: {verdict.outcome.value}", ["rule", "result", "value", "limit"], rows, right=(2, 3)))
    for name in ("regime_probabilities", "strategy_signals", "strategy_weights"):
        out.print(f"{name}: {', '.join(f'{v:.4g}' for v in told[name]) or 'none'}", markup=False)
    pairs = zip(FEATURES, one.features, strict=False)
    out.print("features: " + (", ".join(f"{n} {v:.4g}" for n, v in pairs) or "none"), markup=False)
    out.print("took, us: " + ", ".join(f"{n.removesuffix('_us')} {v:,.0f}" for n, v in told["stages"].items()))


def place() -> tuple[str, str]:
    """Kafka, and the topic of decisions."""
    from stack.processes.settings import gateway_settings

    settings = gateway_settings()
    return settings.kafka_bootstrap, settings.decisions_topic


def asked(symbol: str, action: str, reason: str, arm: str) -> Wanted:
    """What was given. Raises ConfigurationError."""
    from stack.workflows.decided import Wanted, check
    from trading.risk.rules import NAMES

    found = Wanted(symbol, action, reason, arm)
    check(found, tuple(NAMES))
    return found


def line(one: Decision) -> list[str]:
    """A row for people; of a denial the rule that denied."""
    from stack.workflows.decided import denied_by

    why = ", ".join(denied_by(one)) or one.reason.value
    stages = one.stages
    total_ms = (stages.queue_us + stages.features_us + stages.inference_us + stages.decide_us) / 1e3
    return [
        datetime.fromtimestamp(one.decided_at_ns / 1e9, UTC).strftime("%m-%d %H:%M:%S.%f")[:-3],
        one.symbol,
        coloured(COLOURS[one.action.value], one.action.value),
        why,
        shown(one.quantity),
        shown(one.reference_price),
        shown(one.position_after),
        shown(one.target_position),
        one.variant,
        f"{one.model_name} {one.model_version}".strip(),
        f"{total_ms:.1f}",
        one.decision_id,
    ]


def flat(one: Decision) -> Marked:
    """A line for people, whose columns stay where they are."""
    cells = line(one)
    told = [
        f"{cell:>{width}}" if k in RIGHT else f"{cell:<{width}}"
        for k, (cell, width) in enumerate(zip([*cells[:2], one.action.value, *cells[3:]], WIDTHS, strict=True))
    ]
    return coloured(COLOURS[one.action.value], " ".join(told).rstrip())


def shown(value: Any) -> str:
    """A value for people."""
    if value is None or value == "":
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)

"""`ultrathink risk check`, `explain`: one order, and why."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from stack.cli.output import err, out, print_json, table
from stack.cli.risk.command import Json, LimitsOption, app, interpret, limit_set
from trading.decision import wire
from trading.errors import BadRecord, ConfigurationError, ServiceUnavailable


@app.command(epilog="Example: ultrathink risk check --price 61000 --position 0.2 BTCUSDT -- -0.5")
def check(
    context: typer.Context,
    symbol: Annotated[str, typer.Argument(help="Instrument.")],
    quantity: Annotated[float, typer.Argument(help="Signed, in units; negative sells.")],
    price: Annotated[float, typer.Option(help="Touch on the order's far side.")],
    mid: Annotated[float | None, typer.Option(help="Middle of the market; default: the price.")] = None,
    position: Annotated[float, typer.Option(help="Held before, in units.")] = 0.0,
    age_s: Annotated[float, typer.Option(min=0.0, max=1e8, help="Age of the market data.")] = 0.0,
    state: Annotated[str, typer.Option(help="active, reducing, halted or killed.")] = "active",
    limits: LimitsOption = None,
    books: Annotated[int, typer.Option(min=1, help="Books that share the account's limits.")] = 1,
    json: Json = False,
) -> None:
    """What the limits say of one order in an otherwise empty book. Exit code 1 when it is denied.

    Put -- before a negative quantity: ultrathink risk check --price 61000 BTCUSDT -- -0.5
    """
    interpret(context)
    from trading.portfolio.judging import judge_order
    from trading.risk.trading_state import TradingState
    from trading.risk.verdict import Outcome

    if math.isnan(age_s):
        raise ConfigurationError("--age-s is no number")
    try:
        found = TradingState(state)
    except ValueError:
        raise ConfigurationError(f"trading state {state!r}: expected one of {', '.join(TradingState)}") from None
    verdict = judge_order(
        symbol, quantity, price, limits=limit_set(limits, books), position=position, mid=mid, age_s=age_s,
        state=found,
    )  # fmt: skip
    if json:
        print_json(verdict)
    else:
        show_verdict(verdict)
    if verdict.outcome is Outcome.DENY:
        raise typer.Exit(1)


def show_verdict(verdict: Any) -> None:
    """The outcome and the table of rules."""
    from stack.workflows import explain

    out.print(explain.headline(verdict), markup=False)
    show_rows(verdict)


def show_rows(verdict: Any) -> None:
    """Rules and headrooms."""
    from stack.workflows import explain

    shown = [[r.rule, r.result, r.value, r.limit, r.headroom, r.words] for r in explain.rows(verdict)]
    out.print(table("", ["rule", "result", "value", "limit", "headroom", "in words"], shown, right=(2, 3, 4)))


@app.command(epilog="Example: ultrathink risk explain market.ticks-0-4711")
def explain(
    decision: Annotated[str, typer.Argument(help="Id of a decision, or a file with one as JSON.")],
    json: Json = False,
) -> None:
    """Why a decision is what it is: every rule with its value, limit and headroom, in plain words."""
    from stack.workflows import explain

    found = find_decision(decision)
    if json:
        print_json(
            {"story": explain.story(found), "rules": [] if found.verdict is None else explain.rows(found.verdict)}
        )
        return
    for line in explain.story(found):
        out.print(line, markup=False)
    if found.verdict is not None:
        show_rows(found.verdict)


def find_decision(name: str) -> Any:
    """From a file, from the archive, or from the topic itself."""
    from trading.decision.wire import decode_decision

    try:
        if Path(name).is_file():
            return decode_decision(Path(name).read_bytes())
        return decode_decision(from_archive(name) or from_topic(name))
    except BadRecord as error:
        raise ConfigurationError(f"{name} holds no decision of this version: {error}") from error


def from_archive(name: str) -> bytes | None:
    """What the audit trail has stored; None where it has not, or does not answer."""
    from services.forensics.store.reading import opened
    from stack.processes.settings import forensics_settings

    try:
        with opened(forensics_settings().reader_url.get_secret_value()) as reader:
            found = reader.find("decisions", "decision_id", name)
    except (ServiceUnavailable, ConfigurationError):
        return None
    return found[0].record.value if found else None


def from_topic(name: str) -> bytes:
    """Raises ConfigurationError when no decision has this id."""
    from connectors.kafka.cluster import require
    from connectors.kafka.messages import as_bytes
    from connectors.kafka.reading import read_to_end
    from stack.processes.settings import gateway_settings

    settings = gateway_settings()
    topic, partition, offset = ([*name.rsplit("-", 2), "", ""])[:3]
    if not (topic and partition.isdigit() and offset.isdigit()):
        raise ConfigurationError(f"{name!r} is no decision: expected TOPIC-PARTITION-OFFSET of its tick, or a file")
    start = wire.HEAD + f'{name}"'.encode()
    require(settings.kafka_bootstrap, settings.decisions_topic)
    with err.status(f"looking for {name}"):
        for messages in read_to_end(settings.kafka_bootstrap, settings.decisions_topic, int(partition), 0):
            for message in messages:
                payload = as_bytes(message.value()) or b""
                if payload.startswith(start):
                    return payload
    raise ConfigurationError(f"{settings.decisions_topic} holds no decision {name}")

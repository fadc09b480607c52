"""`ultrathink risk`."""

from __future__ import annotations

import getpass
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from stack.cli.output import err, out, print_json, table
from trading.errors import ConfigurationError, ServiceUnavailable

app = typer.Typer(no_args_is_help=True, help="Limits: try them, explain them, change them, prove them.")
limits_app = typer.Typer(no_args_is_help=True, help="The limits in force, and their changes.")
app.add_typer(limits_app, name="limits")

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
LimitsPath = Annotated[
    Path | None, typer.Option("--limits", help="YAML; default: those in force, else the defaults.")
]
Reason = Annotated[str, typer.Option(help="Recorded with the change.")]


def in_force(path: Path | None) -> tuple[Any, str]:
    """A file's limits, or those of the control topic, or the defaults; and which."""
    from stack.cli.gateway import control
    from stack.servers.settings import load
    from trading.risk import limits_file
    from trading.risk.limits import LimitsFile

    if path is not None:
        return limits_file.read(path), str(path)
    if (
        not (load().absolute_home / "stack.json").is_file()
        and "ULTRATHINK_GATEWAY_KAFKA_BOOTSTRAP" not in os.environ
    ):
        return LimitsFile(), "the defaults: there is no stack here"
    try:
        found = control().limits()
    except (ServiceUnavailable, ConfigurationError) as error:
        err.print(
            f"[yellow]no stack answers, so these are the default limits[/] ({str(error)[:100]})", soft_wrap=True
        )
        return LimitsFile(), "the defaults"
    if found is None:
        return LimitsFile(), "the defaults: nobody has set any"
    return found[1], f"in force, set by {found[0].by} because {found[0].reason!r}"


def limit_set(path: Path | None, books: int = 1) -> Any:
    """A file's limits, or those in force, for the gateway's account and strategy."""
    return resolved(in_force(path)[0], books)


def resolved(file: Any, books: int = 1) -> Any:
    """Limits for the gateway's account and strategy."""
    from stack.cli.gateway import gateway_settings

    return gateway_settings().limit_set(books, file)


@app.command(epilog="Example: ultrathink risk check BTCUSDT -0.5 --price 61000 --position 0.2")
def check(
    symbol: Annotated[str, typer.Argument(help="Instrument.")],
    quantity: Annotated[float, typer.Argument(help="Signed, in units; negative sells.")],
    price: Annotated[float, typer.Option(help="Touch on the order's far side.")],
    mid: Annotated[float | None, typer.Option(help="Middle of the market; default: the price.")] = None,
    position: Annotated[float, typer.Option(help="Held before, in units.")] = 0.0,
    age_s: Annotated[float, typer.Option(min=0.0, max=1e8, help="Age of the market data.")] = 0.0,
    state: Annotated[str, typer.Option(help="active, reducing, halted or killed.")] = "active",
    limits: LimitsPath = None,
    books: Annotated[int, typer.Option(min=1, help="Books that share the account's limits.")] = 1,
    json: Json = False,
) -> None:
    """What the limits say of one order in an otherwise empty book. Exit code 1 when it is denied.

    Put -- before a negative quantity: ultrathink risk check --price 61000 BTCUSDT -- -0.5
    """
    import time

    from trading.portfolio.book import Book
    from trading.risk.calendar import DAY, is_open
    from trading.risk.model import Order
    from trading.risk.trading_state import SEVERITY, TradingState
    from trading.risk.verdict import Outcome

    if math.isnan(age_s):
        raise ConfigurationError("--age-s is no number")
    try:
        severity = SEVERITY[TradingState(state)]
    except ValueError:
        raise ConfigurationError(f"trading state {state!r}: expected one of {', '.join(TradingState)}") from None
    found = limit_set(limits, books)
    book, now_ns = Book(found), time.time_ns()
    middle = price if mid is None else mid
    if position:
        # Bought yesterday: no rate and no duplicate of today.
        book.observe(symbol, now_ns - DAY, middle)
        book.accept(symbol, position, middle, 0, assumed=True)
    book.observe(symbol, now_ns, middle)
    quota = found.of(symbol).max_desk_notional
    order = Order(
        quantity, price, math.nan, math.nan, math.nan, middle, 1, now_ns, int(age_s * 1e9), severity,
        bool(is_open(now_ns, found.calendar)), math.nan if quota is None else quota,
    )  # fmt: skip
    verdict = book.judge(symbol, order)
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
    import msgspec

    from trading.decision.wire import decode_decision

    try:
        if Path(name).is_file():
            return decode_decision(Path(name).read_bytes())
        return decode_decision(from_archive(name) or from_topic(name))
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{name} holds no decision of this version: {error}") from error


def from_archive(name: str) -> bytes | None:
    """What the audit trail has stored; None where it has not, or does not answer."""
    from services.forensics.store import DecisionArchive
    from stack.cli.forensics import forensics_settings

    try:
        archive = DecisionArchive(forensics_settings().postgres_url.get_secret_value())
    except (ServiceUnavailable, ConfigurationError):
        return None
    try:
        found = archive.find(name)
    finally:
        archive.close()
    return None if found is None else found.encode()


def from_topic(name: str) -> bytes:
    """Raises ConfigurationError when no decision has this id."""
    from connectors.kafka.cluster import require
    from connectors.kafka.messages import as_bytes
    from connectors.kafka.reading import read_to_end
    from stack.cli.gateway import gateway_settings

    settings = gateway_settings()
    topic, partition, offset = ([*name.rsplit("-", 2), "", ""])[:3]
    if not (topic and partition.isdigit() and offset.isdigit()):
        raise ConfigurationError(f"{name!r} is no decision: expected TOPIC-PARTITION-OFFSET of its tick, or a file")
    start = f'{{"decision_id":"{name}"'.encode()
    require(settings.kafka_bootstrap, settings.decisions_topic)
    with err.status(f"looking for {name}"):
        for messages in read_to_end(settings.kafka_bootstrap, settings.decisions_topic, int(partition), 0):
            for message in messages:
                payload = as_bytes(message.value()) or b""
                if payload.startswith(start):
                    return payload
    raise ConfigurationError(f"{settings.decisions_topic} holds no decision {name}")


@app.command(epilog="Example: ultrathink risk simulate binance:BTCUSDT.gz --limits new.yaml")
def simulate(
    source: Annotated[
        str, typer.Argument(help="A SOURCE; decisions (of this stack); or decisions:FILE, JSON lines.")
    ],
    limits: Annotated[Path, typer.Option(help="The new limits, YAML.")],
    base: Annotated[Path | None, typer.Option(help="To compare with; default: those in force.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use so many ticks only.")] = None,
    plot: Annotated[Path, typer.Option(help="Where the plot goes.")] = Path("risk-simulation.png"),
    json: Json = False,
) -> None:
    """What new limits would have changed: on recorded decisions, or on ticks with a plain trend follower's targets.

    Both runs are decided by the gateway's own code; accepted orders count as filled.
    """
    import msgspec

    from stack.workflows import risk_simulation as work

    if source == "decisions" or source.startswith("decisions:"):
        payloads, books = recorded(source, limit)
        parts = work.parts_of_decisions(payloads)
    else:
        from trading.history import open_source

        parts, books = work.parts_of_source(open_source(source), limit), 1
    new = limit_set(limits, books)
    old = limit_set(base, books)
    with err.status("deciding") as status:
        result, one, other = work.simulate(source, counted(parts, status), old, new)
    work.plot(plot, one, other)
    result = msgspec.structs.replace(result, plot=str(plot))
    if json:
        print_json(result)
    else:
        show_simulation(result)


def counted(parts: Iterator[Any], status: Any) -> Iterator[Any]:
    """Show how far it is."""
    seen = 0
    for part in parts:
        yield part
        seen += len(part.symbols)
        status.update(f"{seen:,} ticks decided twice")


def recorded(source: str, limit: int | None) -> tuple[Iterator[bytes], int]:
    """Payloads of recorded decisions, and how many books they are of."""
    from itertools import islice

    if source != "decisions":
        path = Path(source.partition(":")[2])
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
        ids = [line.split(b'"', 4)[3].rsplit(b"-", 2) for line in lines if line.count(b'"') > 4]
        partitions = {place[1] for place in ids if len(place) == 3}
        return iter(lines[:limit]), max(1, len(partitions))
    from connectors.kafka.messages import as_bytes
    from connectors.kafka.reading import read_to_end
    from stack.cli.gateway import gateway_settings
    from stack.servers.settings import load

    settings, partitions_of = gateway_settings(), load().partitions

    def read() -> Iterator[bytes]:
        for partition in range(partitions_of):
            for messages in read_to_end(settings.kafka_bootstrap, settings.decisions_topic, partition, 0):
                yield from (as_bytes(message.value()) or b"" for message in messages)

    return islice(read(), limit), partitions_of


def show_simulation(result: Any) -> None:
    """One screen."""
    from stack.demo.report import to_text

    a, b = result.base, result.new
    rows = [
        [name, f"{getattr(a, field):,.0f}", f"{getattr(b, field):,.0f}"]
        for name, field in (
            ("orders wanted", "wanted"), ("accepted", "accepted"), ("clipped", "clipped"), ("denied", "denied"),
            ("traded, money", "traded"), ("largest gross exposure", "max_gross"), ("profit", "profit"),
        )
    ]  # fmt: skip
    rows += [
        [f"broken: {rule}", f"{a.broken.get(rule, 0):,}", f"{b.broken.get(rule, 0):,}"]
        for rule in sorted({*a.broken, *b.broken})
    ]
    rows += [
        [f"most used: {rule}", f"{a.nearest.get(rule, 0.0):.0%}", f"{b.nearest.get(rule, 0.0):.0%}"]
        for rule in sorted({*a.nearest, *b.nearest})
    ]
    out.print(f"{result.source}: {result.ticks:,} ticks, {result.changed:,} decided differently", markup=False)
    out.print(table("", ["", f"before ({a.limits})", f"new ({b.limits})"], rows, right=(1, 2)))
    if result.first_changes:
        shown = [[c.symbol, to_text(c.event_time_ns), c.base, c.new] for c in result.first_changes]
        out.print(table("\nfirst changes", ["symbol", "at", "before", "new"], shown))
    out.print(f"plot: {result.plot}", soft_wrap=True)


@app.command(epilog="Example: ultrathink risk selftest --limits limits.yaml --json")
def selftest(limits: LimitsPath = None, json: Json = False) -> None:
    """For each rule an order that it must deny, and one that it must let pass. Exit code 1 when a proof fails."""
    from trading.portfolio.book import Book
    from trading.risk.self_test import prove_all

    with err.status("proving"):
        proofs = prove_all(limit_set(limits), Book)
    if json:
        print_json(proofs)
    else:
        rows = [
            [p.rule, p.scope, "off" if not p.on else "[red]not proven[/]" if p.problem else "proven", p.denied,
             p.passed, p.problem]
            for p in proofs
        ]  # fmt: skip
        out.print(table("", ["rule", "scope", "", "must be denied", "must pass", "problem"], rows))
        on = [p for p in proofs if p.on]
        out.print(f"{sum(not p.problem for p in on)} of {len(on)} limits proven, {len(proofs) - len(on)} off")
    if any(p.problem for p in proofs):
        raise typer.Exit(1)


@app.command(epilog="Example: ultrathink risk rules --markdown")
def rules(
    markdown: Annotated[bool, typer.Option("--markdown", help="As docs/risk.md has it.")] = False,
    json: Json = False,
) -> None:
    """Every rule: what it means, its limits, the regulation that it serves, and what it does when blind."""
    from stack.workflows import explain

    header, lines = ["rule", "meaning", "limits", "serves", "when blind"], explain.rules_table()
    if json:
        print_json([dict(zip(header, line, strict=True)) for line in lines])
    elif markdown:
        sys.stdout.write(explain.as_markdown(header, lines) + "\n")
    else:
        out.print(table("", header, lines))


@app.command(epilog='Example: ultrathink risk reset drawdown --reason "hedge was wrong, and is closed"')
def reset(
    what: Annotated[
        str, typer.Argument(help="drawdown, daily_loss, repeated_execution, cooldown or clock_offset.")
    ],
    reason: Reason,
) -> None:
    """End what a rule has latched, in every book; recorded in the log at the tick before which it holds."""
    from stack.cli.gateway import control
    from trading.portfolio.book import RESETS

    if what not in RESETS:
        raise ConfigurationError(f"{what!r} cannot be reset: expected one of {', '.join(RESETS)}")
    control().command("reset", what, reason, getpass.getuser())
    out.print(f"{what}: reset by {getpass.getuser()} because {reason!r}: {RESETS[what]}")


@app.command(epilog="Example: ultrathink risk schema > limits.schema.json")
def schema() -> None:
    """The JSON schema of a limits file, for editors."""
    import json

    from trading.risk.limits_file import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")


@limits_app.command("show", epilog="Example: ultrathink risk limits show --symbol BTCUSDT")
def show(
    symbol: Annotated[str, typer.Option(help="As they hold for this symbol.")] = "",
    limits: LimitsPath = None,
    json: Json = False,
) -> None:
    """The limits in force, who set them, and what they come to for a symbol."""
    import msgspec

    file, told = in_force(limits)
    found = msgspec.structs.asdict(resolved(file).of(symbol))
    if json:
        print_json({"told": told, "file": file, "resolved": found})
        return
    out.print(f"{told}; resolved for {symbol or 'any symbol'}", markup=False)
    out.print(table("", ["limit", ""], [[name, "off" if v is None else f"{v}"] for name, v in found.items()]))


@limits_app.command("check", epilog="Example: ultrathink risk limits check limits.yaml")
def check_file(path: Annotated[Path, typer.Argument(help="YAML.")]) -> None:
    """Read a file of limits whole; each error with its line. Exit code 2 when it is refused."""
    from trading.risk import limits_file

    file = limits_file.read(path)
    out.print(f"{path}: {len(file.symbols)} symbols, {len(file.accounts)} accounts; no error")


@limits_app.command("diff", epilog="Example: ultrathink risk limits diff old.yaml new.yaml")
def diff(
    old: Annotated[Path, typer.Argument(help="YAML; - takes those in force.")],
    new: Annotated[Path, typer.Argument(help="YAML.")],
    json: Json = False,
) -> None:
    """What differs between two files of limits, by level. Exit code 1 when something does."""
    from trading.risk import limits_file

    before, _ = in_force(None if str(old) == "-" else old)
    found = limits_file.changes(before, limits_file.read(new))
    if json:
        print_json([{"level": level, "limit": name, "old": a, "new": b} for level, name, a, b in found])
    elif found:
        rows = [[level, name, "not given" if a is None else f"{a}", "not given" if b is None else f"{b}"]
                for level, name, a, b in found]  # fmt: skip
        out.print(table("", ["level", "limit", "old", "new"], rows))
    else:
        out.print("no difference")
    if found:
        raise typer.Exit(1)


@limits_app.command(
    "apply", epilog='Example: ultrathink risk limits apply limits.yaml --reason "smaller while we test"'
)
def apply(path: Annotated[Path, typer.Argument(help="YAML.")], reason: Reason) -> None:
    """Set these limits for every gateway, without a restart: whole or not at all, and recorded with who and why.

    Each book takes them before its next tick; its decisions say so from there on.
    """
    from stack.cli.gateway import control
    from trading.portfolio.book import Book
    from trading.risk import limits_file
    from trading.risk.self_test import prove_all

    file = limits_file.read(path)
    problems = [f"{p.rule} ({p.scope}): {p.problem}" for p in prove_all(resolved(file), Book) if p.problem]
    if problems:
        raise ConfigurationError(f"{path} is refused, the limits in force stay: " + "; ".join(problems))
    before, _ = in_force(None)
    control().apply(file, reason, getpass.getuser())
    count = len(limits_file.changes(before, file))
    out.print(f"{path}: set by {getpass.getuser()} because {reason!r}; {count} limits changed")


@limits_app.command("history", epilog="Example: ultrathink risk limits history --json")
def history(json: Json = False) -> None:
    """Every change of limits and latches: when, by whom, why."""
    from gateway.control.topic import all_commands
    from stack.cli.dlq import stamp
    from stack.cli.gateway import gateway_settings

    settings = gateway_settings()
    found = all_commands(settings.kafka_bootstrap, settings.control_topic)
    if json:
        print_json(found)
        return
    rows = [
        [stamp(c.at_ns), c.kind, c.by, "" if c.kind == "limits" else c.value, c.reason]
        for c in found
        if c.kind != "log_level"
    ]
    out.print(table("", ["at", "what", "by", "value", "reason"], rows))

"""`ultrathink risk limits …`: shown, checked, compared, set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from stack.cli.output import err, out, print_json, table
from stack.cli.risk.command import Json, LimitsOption, ReasonOption, in_force, limits_app, resolved
from trading.errors import ConfigurationError
from trading.users import current_user


@limits_app.command("show", epilog="Example: ultrathink risk limits show --symbol BTCUSDT")
def show(
    symbol: Annotated[str, typer.Option(help="As they hold for this symbol.")] = "",
    limits: LimitsOption = None,
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
def apply(path: Annotated[Path, typer.Argument(help="YAML.")], reason: ReasonOption) -> None:
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
    before = before_change()
    control().apply(file, reason, current_user())
    count = len(limits_file.changes(before, file))
    out.print(f"{path}: set by {current_user()} because {reason!r}; {count} limits changed")


def before_change() -> Any:
    """The limits in force; none of them where they are not understood, and so are to be replaced."""
    from trading.risk.limits import LimitsFile

    try:
        return in_force(None)[0]
    except ConfigurationError as error:
        err.print(f"[yellow]replaced:[/] {escape(str(error))}", soft_wrap=True)
        return LimitsFile()


@limits_app.command("history", epilog="Example: ultrathink risk limits history --json")
def history(json: Json = False) -> None:
    """Every change of limits and latches: when, by whom, why."""
    from gateway.control.topic import all_commands
    from stack.cli.dlq import stamp
    from stack.processes.settings import gateway_settings

    settings = gateway_settings()
    found = list(all_commands(settings.kafka_bootstrap, settings.control_topic))
    if json:
        print_json(found)
        return
    rows = [
        [stamp(c.at_ns), c.kind, c.by, "" if c.kind in {"limits", "rebind", "experiment"} else c.value, c.reason]
        for c in found
        if c.kind != "log_level"
    ]
    out.print(table("", ["at", "what", "by", "value", "reason"], rows))

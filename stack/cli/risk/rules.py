"""`ultrathink risk rules`, `selftest`, `reset`, `schema`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from stack.cli.output import coloured, err, out, print_json, table
from stack.cli.risk.command import Json, LimitsOption, ReasonOption, app, limit_set
from trading.errors import ConfigurationError
from trading.users import current_user


@app.command(epilog="Example: ultrathink risk selftest --limits limits.yaml --json")
def selftest(limits: LimitsOption = None, json: Json = False) -> None:
    """For each rule an order that it must deny, and one that it must let pass. Exit code 1 when a proof fails."""
    from trading.portfolio.book import Book
    from trading.risk.self_test import prove_all

    with err.status("proving"):
        proofs = prove_all(limit_set(limits), Book)
    if json:
        print_json(proofs)
    else:
        rows = [
            [p.rule, p.scope, "off" if not p.on else coloured("red", "not proven") if p.problem else "proven",
             p.denied, p.passed, p.problem]
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
        out.print(table("", header, lines, prose=True))


@app.command(epilog='Example: ultrathink risk reset drawdown --reason "hedge was wrong, and is closed"')
def reset(
    what: Annotated[
        str, typer.Argument(help="drawdown, daily_loss, repeated_execution, cooldown or clock_offset.")
    ],
    reason: ReasonOption,
) -> None:
    """End what a rule has latched, in every book; recorded in the log at the tick before which it holds."""
    from stack.cli.gateway import control
    from trading.portfolio.book import RESETS

    if what not in RESETS:
        raise ConfigurationError(f"{what!r} cannot be reset: expected one of {', '.join(RESETS)}")
    control().command("reset", what, reason, current_user())
    out.print(f"{what}: reset by {current_user()} because {reason!r}: {RESETS[what]}")


@app.command(epilog="Example: ultrathink risk schema > limits.schema.json")
def schema() -> None:
    """The JSON schema of a limits file, for editors."""
    import json

    from trading.risk.limits_file import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")

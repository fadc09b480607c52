"""`ultrathink forensics what-if`: one decision under other limits, or by another model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.forensics.command import IdArgument, JsonOption, app
from stack.cli.output import coloured, out, print_json, table
from trading.errors import ConfigurationError

if TYPE_CHECKING:
    from trading.decision.schema import Decision


@app.command("what-if", epilog="Example: ultrathink forensics what-if market.ticks-0-4711 --limits new.yaml")
def what_if(
    decision_id: IdArgument,
    limits: Annotated[Path | None, typer.Option(help="Limits that would have held, YAML.")] = None,
    model: Annotated[str | None, typer.Option(help="NAME/VERSION that would have been asked.")] = None,
    json: JsonOption = False,
) -> None:
    """What would have been decided of a tick, from the same book, under other limits or by another model."""
    from stack.cli.train import showing
    from stack.processes.settings import forensics_settings
    from stack.workflows.asking import place_of_models
    from stack.workflows.what_if import decide_otherwise
    from trading.risk import limits_file

    if limits is None and model is None:
        raise ConfigurationError("name what would have been another: --limits FILE, --model NAME/VERSION, or both")
    other = None if limits is None else limits_file.read(limits)
    with showing("replaying") as progress:
        recorded, made = decide_otherwise(
            forensics_settings(), place_of_models(), decision_id, other, model,
            lambda n, of: progress("ticks before it", n, of),
        )  # fmt: skip
    if json:
        print_json({"recorded": recorded, "what_if": made})
    else:
        out.print(table(decision_id, ["", "recorded", "what if"], compared(recorded, made)))


def compared(recorded: Decision, made: Decision) -> list[list[str]]:
    """What differs stands out."""
    rows = []
    for name, one, other in zip(
        ("action", "reason", "quantity", "target", "position after", "limits", "model", "broken rules"),
        words_of(recorded), words_of(made), strict=True,
    ):  # fmt: skip
        rows.append([name, one, other if one == other else coloured("yellow", other)])
    return rows


def words_of(d: Decision) -> list[str]:
    """A decision in a column."""
    target = "none" if d.target_position is None else f"{d.target_position:+.4f}"
    broken = ", ".join(d.verdict.broken) if d.verdict is not None else ""
    model = f"{d.model_name} {d.model_version}".strip()
    return [
        d.action.value, d.reason.value, f"{d.quantity:+g}", target, f"{d.position_after:g}", d.limits_version,
        model, broken or "none",
    ]  # fmt: skip

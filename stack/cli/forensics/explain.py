"""`ultrathink forensics explain`: why a model wanted what it wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stack.cli.forensics.command import IdArgument, JsonOption, app
from stack.cli.output import coloured, err, out, print_json, table


@app.command(epilog="Example: ultrathink forensics explain market.ticks-0-4711 --plot why.png")
def explain(
    decision_id: IdArgument,
    plot: Annotated[Path | None, typer.Option(help="Write a picture here.")] = None,
    json: JsonOption = False,
) -> None:
    """Divide a decision's target among groups of features (exact Shapley values), asking its model.

    The baseline is the mean of the symbol's earlier decisions. Exit code 1 where the model does not want now
    what it wanted then: its build or device are others.
    """
    from stack.processes.settings import forensics_settings
    from stack.workflows import explanation as work
    from stack.workflows.asking import place_of_models

    with err.status("asking the model"):
        told = work.explain(forensics_settings(), place_of_models(), decision_id)
    if plot is not None:
        work.plot(plot, told)
    if json:
        print_json(told)
    else:
        out.print(told.sentence, markup=False, soft_wrap=True)
        rows = [["baseline", f"{told.baseline_target:+.6f}", told.baseline]]
        for one in told.contributions:
            colour = "green" if one.value > 0 else "red"
            features = ", ".join(f"{name} {value:.4g}" for name, value in one.features.items())
            rows.append([one.group, coloured(colour, f"{one.value:+.6f}"), features])
        rows.append(["target", f"{told.target:+.6f}", f"recorded {told.recorded_target:+.6f}"])
        out.print(table("", ["features", "share of the limit", ""], rows, right=(1,), prose=True))
        if plot is not None:
            out.print(f"picture: {plot}", markup=False)
    if not told.is_same:
        err.print("[yellow]the model does not want now what it wanted then[/]: its build or device are others")
        raise typer.Exit(1)

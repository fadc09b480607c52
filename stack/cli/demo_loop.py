"""`ultrathink demo --loop`: what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stack.cli.output import out, print_json, stages, table

if TYPE_CHECKING:
    from stack.demo.loop_shown import LoopShown


def loop(home: Path, *, keep: bool, json: bool, seed: int | None = None) -> None:
    """Each step as it happens, on stderr; then one screen, or JSON. Exit code 1 where what was planted is not
    found. With a seed each step of the update and of the watch is killed once, at a moment that follows from it.
    """
    from stack.cli.demo import start_quietly
    from stack.cli.train import showing
    from stack.demo import loop as work
    from stack.demo.run import demo_stack

    stage = stages()
    with demo_stack(home, keep=keep) as (settings, _):
        stage("start the servers")
        start_quietly(settings)
        with showing("loop") as progress:
            found = work.run(settings, stage, progress, seed)
    if json:
        print_json(found)
    else:
        show(found)
    if not found.as_planted:
        raise typer.Exit(1)


def show(found: LoopShown) -> None:
    """One screen."""
    rows = [[f"{s.at_s:.0f}", s.kind, s.step, s.end, s.summary[:90]] for s in found.steps]
    out.print(table("steps", ["s", "run", "step", "", "what it came to"], rows, right=(0,)))
    told = "; ".join(f"{one['what']} ({one['detector']})" for one in found.alarms) or "nothing"
    out.print(f"the turn was found after {found.found_after or 0:,} ticks: {told}", markup=False, soft_wrap=True)
    out.print(f"{found.promoted or 'nothing'} took over from {found.champion}", markup=False)
    if found.taken_back:
        same = "the same bytes" if found.same_bytes else "NOT the same bytes"
        took = "" if found.rollback_s is None else f" {found.rollback_s:.1f} s after that was known"
        out.print(f"taken back{took}, {same}: {found.taken_back}", markup=False, soft_wrap=True)
    if found.kills:
        kills = [
            [one.kind, one.step, f"{one.after_s:.1f}", "never" if one.again_s is None else f"{one.again_s:.1f}",
             str(one.done), "held" if one.ok else "broken"]
            for one in found.kills
        ]  # fmt: skip
        columns = ["run", "step killed", "after s", "begun anew after s", "done", "promise"]
        out.print(table("kills", columns, kills, right=(2, 3, 4)))
    out.print(f"{found.seconds:.0f} s", markup=False)

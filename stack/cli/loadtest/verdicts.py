"""`ultrathink loadtest report`, `targets`: what was measured, and what is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stack.cli.loadtest.command import Json, Out, Targets, app, finish, folder_of, given, write_files
from stack.cli.output import out, print_json, table


@app.command(epilog="Example: ultrathink loadtest report result.json --target decision --out report")
def report(
    results: Annotated[list[Path], typer.Argument(help="result.json of one run or several.")],
    target: Annotated[str | None, typer.Option(help="Judge anew by this target.")] = None,
    targets: Targets = None,
    out_folder: Out = None,
    json: Json = False,
) -> None:
    """Write the table, Markdown, JUnit XML and the HTML report of kept results anew."""
    from loadtest.judging.drift import JUDGED, judge_drift, judged_for_drift
    from loadtest.judging.gates import judge
    from loadtest.judging.targets import pick
    from loadtest.measuring.result import load as load_result

    found = [load_result(path) for path in results]
    if target is not None:
        goal = pick(target, *given(targets))
        soaks = [judged_for_drift(result) for result in found]
        found = [judge(result, goal) for result in found]
        found = [judge_drift(r, list(JUDGED)) if soak else r for r, soak in zip(found, soaks, strict=True)]
    finish(found, write_files(folder_of(out_folder), found), json=json)


@app.command("targets", epilog="Example: ultrathink loadtest targets --targets mine.yaml")
def show_targets(targets: Targets = None, json: Json = False) -> None:
    """Check a targets' file, and show what it asks."""
    import msgspec

    from loadtest.judging.targets import read

    found = read(*given(targets))
    if json:
        print_json(found)
        return
    names = list(msgspec.structs.asdict(next(iter(found.values()))))
    shown = [
        [name, *("" if v is None else f"{v:g}" for v in msgspec.structs.asdict(t).values())]
        for name, t in found.items()
    ]
    out.print(table("", ["target", *names], shown, right=tuple(range(1, len(names) + 1))))

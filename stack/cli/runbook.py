"""`ultrathink runbook`."""

from __future__ import annotations

import re
import sys
from typing import Annotated

import typer

from stack.cli.output import coloured, out, print_json, table

#: What Prometheus fills in when it fires.
WHICH = re.compile(r"\{\{.*?\}\}")


def runbook(
    name: Annotated[str, typer.Argument(help="An alert; without one all are listed.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """What an alert means, what to look at, what to do, and how to know that it is over.

    Example: ultrathink runbook NoDecisions
    """
    from stack.watching.alerts import ALERTS
    from stack.watching.runbook import page

    if name:
        text = page(name)
        print_json({"name": text.splitlines()[0].removeprefix("# "), "page": text}) if json else sys.stdout.write(
            text
        )
    elif json:
        print_json([{"name": one.name, "severity": one.severity, "summary": one.summary} for one in ALERTS])
    else:
        colours = {"critical": "red", "warning": "yellow"}
        rows = [
            [one.name, coloured(colours[one.severity], one.severity), WHICH.sub("…", one.summary)] for one in ALERTS
        ]
        out.print(table("", ["alert", "severity", "says"], rows, prose=True))

"""`ultrathink support-bundle`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from stack.cli.output import err, out, print_json


def support_bundle(
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="The archive; default: a new one in this folder.", dir_okay=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """State, settings, logs, versions and the last hour's metrics of this stack in one archive, without secrets.

    Example: ultrathink support-bundle --out support.zip
    """
    from stack.servers.settings import load
    from stack.workflows.support_bundle import write_bundle

    path = out_file or Path(time.strftime("ultrathink-support-%Y%m%d-%H%M%S.zip", time.gmtime()))
    with err.status("collecting") as status:
        names = write_bundle(load(), path, lambda name: status.update(f"collecting {name}"))
    if json:
        print_json({"path": path, "parts": names})
        return
    out.print(f"{path} ({path.stat().st_size / 1024:,.0f} KB): {', '.join(names)}", markup=False, soft_wrap=True)
    out.print("secrets were taken out; look through it before you send it: it holds logs and positions")

"""`ultrathink forensics run`, and what it needs: tables and a key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stack.cli.forensics.command import app
from stack.cli.output import err, out
from trading.errors import ConfigurationError


@app.command(epilog="Example: ultrathink forensics run --heartbeat /tmp/forensics-lives")
def run(
    heartbeat: Annotated[Path | None, typer.Option(help="File touched in every turn, for a health check.")] = None,
) -> None:
    """Put on record what is published until SIGTERM or Ctrl-C; going on later loses and repeats nothing."""
    from services.forensics.main import run as serve
    from stack.processes.forensics import settings_with_key

    with err.status("connecting") as status:

        def turn(count: int, waiting: str) -> None:
            status.update(f"{count:,} records stored" + (f"; waiting: {waiting[:100]}" if waiting else ""))
            if heartbeat is not None:
                heartbeat.touch()

        done = serve(settings_with_key(), turn)
    out.print(f"{done.stored:,} records stored")
    if done.alarms:
        err.print(f"[bold red]{done.alarms:,} alarms[/]: `ultrathink forensics alarms`")


@app.command(epilog="Example: ultrathink forensics migrate")
def migrate() -> None:
    """Make the trail's tables, or bring them to this version, as ULTRATHINK_FORENSICS_OWNER_URL says."""
    from services.forensics.bootstrap import migrate_trail
    from stack.processes.settings import forensics_settings

    owner = forensics_settings().owner_url.get_secret_value()
    if not owner:
        raise ConfigurationError(
            "set ULTRATHINK_FORENSICS_OWNER_URL: postgresql://OWNER:PASSWORD@HOST:PORT/DATABASE"
        )
    before, now = migrate_trail(owner)
    out.print(f"the trail is of version {now}" + (f"; it was of {before or 'none'}" if before != now else ""))


@app.command(epilog="Example: ultrathink forensics keygen secrets/forensics-signing-key")
def keygen(path: Annotated[Path, typer.Argument(help="Of the private key; the public one gets .pub.")]) -> None:
    """Make the key that signs checkpoints. Whoever holds it can sign another past: forensics alone reads it."""
    from services.forensics.keys import key_id, make_keys, public_path

    key = make_keys(path)
    out.print(f"{path} and {public_path(path)}: key {key_id(key.public_key())}", markup=False)

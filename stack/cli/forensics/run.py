"""`ultrathink forensics run`, and what it needs: tables and a key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from stack.cli.forensics.command import JsonOption, app
from stack.cli.output import err, out, print_json
from trading.errors import ConfigurationError

NO_OWNER = "set ULTRATHINK_FORENSICS_OWNER_URL: postgresql://OWNER:PASSWORD@HOST:PORT/DATABASE"


@app.command(epilog="Example: ultrathink forensics run --heartbeat /tmp/forensics-lives")
def run(
    heartbeat: Annotated[Path | None, typer.Option(help="File touched in every turn, for a health check.")] = None,
) -> None:
    """Put on record what is published until SIGTERM or Ctrl-C; going on later loses and repeats nothing."""
    from services.forensics.main import run as serve
    from stack.processes.forensics import settings_with_key
    from stack.processes.own import PROGRAM

    with err.status("connecting") as status:

        def turn(count: int, waiting: str) -> None:
            status.update(f"{count:,} records stored" + (f"; waiting: {waiting[:100]}" if waiting else ""))
            if heartbeat is not None:
                heartbeat.touch()

        done = serve(settings_with_key(), turn, [os.fspath(PROGRAM), "forensics", "verify", "--json"])
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
        raise ConfigurationError(NO_OWNER)
    before, now = migrate_trail(owner)
    out.print(f"the trail is of version {now}" + (f"; it was of {before or 'none'}" if before != now else ""))


@app.command(epilog="Example: ultrathink forensics retire --dry-run")
def retire(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; nothing goes.")] = False,
    daily: Annotated[bool, typer.Option("--daily", help="Once a day, until stopped.")] = False,
    heartbeat: Annotated[Path | None, typer.Option(help="With --daily: file touched every minute.")] = None,
    json: JsonOption = False,
) -> None:
    """Drop what is older than ULTRATHINK_FORENSICS_KEEP_DAYS, seven years at the least; its leaves stay.

    A part of a table goes whole, where its newest event is that old and its records were signed that long ago.
    Trees, proofs and verification of what is left go on. It is done as ULTRATHINK_FORENSICS_OWNER_URL says; the
    embedded stack's forensics does it once a day. Commands, releases, experiments and starts are kept for good.
    """
    from services.forensics.checkpoint_files import CheckpointFiles
    from services.forensics.retention import DailyRetention, retire_due
    from stack.processes.settings import forensics_settings
    from stack.workflows.trusted_keys import trusted

    if daily and (dry_run or json):
        raise ConfigurationError("--daily goes on until it is stopped: without --dry-run and --json")
    if heartbeat is not None and not daily:
        raise ConfigurationError("--heartbeat is of --daily: one look touches no file")
    settings = forensics_settings()
    owner = settings.owner_url.get_secret_value()
    if not owner:
        raise ConfigurationError(NO_OWNER)
    keys, files = trusted(settings, None), CheckpointFiles(settings.checkpoints)
    if daily:
        DailyRetention(owner, files, keys, settings.keep_days).run(heartbeat.touch if heartbeat else lambda: None)
        return
    with err.status("looking for what is old enough"):
        found = retire_due(owner, files, keys, settings.keep_days, try_only=dry_run)
    if json:
        print_json({"retired": [] if dry_run else found, "would_retire": found if dry_run else []})
        return
    for one in found:
        out.print(f"{one.part}: {one.records:,} records {'would go' if dry_run else 'retired'}", markup=False)
    if not found:
        out.print(f"nothing is older than {settings.keep_days:,} days")


@app.command(epilog="Example: ultrathink forensics keygen secrets/forensics-signing-key")
def keygen(path: Annotated[Path, typer.Argument(help="Of the private key; the public one gets .pub.")]) -> None:
    """Make the key that signs checkpoints. Whoever holds it can sign another past: forensics alone reads it."""
    from trading.keys import key_id, make_keys, public_path

    key = make_keys(path)
    out.print(f"{path} and {public_path(path)}: key {key_id(key.public_key())}", markup=False)

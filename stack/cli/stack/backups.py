"""`ultrathink stack backup` and `restore`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.output import err, out, print_json
from stack.cli.stack.command import Json, app

if TYPE_CHECKING:
    from stack.backup.manifest import Backup

MB = 1 << 20


@app.command(epilog="Example: ultrathink stack backup backups/today --stop")
def backup(
    folder: Annotated[Path, typer.Argument(help="To be made.")],
    stop: Annotated[
        bool, typer.Option("--stop", help="End a desk that runs, back it up, and start it again.")
    ] = False,
    json: Json = False,
) -> None:
    """Copy what cannot be made again, of a desk that is down.

    Kafka, PostgreSQL, Redis, MLflow, models, trail, archive and passwords, with the hash of every file; the folder
    appears whole. Keep it as you keep the passwords.
    """
    from stack.backup.taking import plan, take
    from stack.servers.settings import is_started, load
    from stack.supervision.orphans import left_behind
    from stack.supervision.status import read_status
    from trading.errors import ConfigurationError

    settings = load()
    home = settings.absolute_home
    if not is_started(home):
        raise ConfigurationError(f"no stack was ever started in {home}: there is nothing to back up")
    # Before a desk is ended for it.
    plan(settings, folder)
    status = read_status(home)
    # Its supervisor may have been killed, and what it started goes on.
    runs = (status is not None and status.alive) or bool(left_behind(home))
    with ended(home) if stop and runs else contextlib.nullcontext(), working("backing up") as told:
        made = take(settings, folder, told)
        show(made, folder, json=json)


@contextlib.contextmanager
def ended(home: Path) -> Iterator[None]:
    """A desk is down meanwhile; whatever happens, it is started again as it was, or that is said."""
    from stack.servers.settings import load
    from stack.supervision import units
    from stack.supervision.lifecycle import down, up, wait_until_ready

    by_systemd = units.active(home)
    try:
        with err.status("draining and stopping"):
            units.stop(home)
            down(home)
        yield
    finally:
        try:
            with err.status("starting again"):
                if by_systemd:
                    units.start(by_systemd)
                    wait_until_ready(home, lambda _: None)
                else:
                    up(load(home), lambda _: None)
        except BaseException:
            err.print(f"[red]the desk in {home} is DOWN: `ultrathink stack up` starts it[/]", soft_wrap=True)
            raise


@app.command(epilog="Example: ultrathink --home .restored stack restore backups/today")
def restore(
    folder: Annotated[Path, typer.Argument(help="Of a backup.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Verify every file, and restore nothing.")] = False,
    json: Json = False,
) -> None:
    """Make the home folder of a backup's desk, where there is none; every byte is held against its hash.

    Then `ultrathink stack up` starts it. The desk that was backed up must never trade beside it: both would.
    """
    from stack.backup import manifest
    from stack.backup.restoring import elsewhere, verify
    from stack.backup.restoring import restore as restored
    from stack.servers.settings import home_folder

    if dry_run:
        with working("verifying") as told:
            show(verify(folder.expanduser().resolve(), told), folder, json=json)
        return
    with working("restoring") as told:
        settings = restored(folder, home_folder(), told)
    for line in elsewhere(settings, Path(manifest.read(folder.expanduser().resolve()).home)):
        err.print(f"[yellow]{line}[/]", soft_wrap=True)
    if json:
        print_json({"home": str(settings.home), "model_repository": str(settings.model_repository)})
        return
    out.print(f"restored to {settings.home}: `ultrathink stack up` starts it", markup=False, soft_wrap=True)
    out.print("It goes on where it was put aside, in the trading state of then. Before you start it:")
    out.print("end the other desk for good, or both trade; if that has traded since, compare account and books.")


@contextlib.contextmanager
def working(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time that is left; yields what is told bytes done and bytes in all."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show(made: Backup, folder: Path, *, json: bool) -> None:
    """What a backup holds."""
    if json:
        print_json(
            {"folder": str(folder), "at": made.at, "version": made.version, "files": len(made.files),
             "bytes": made.bytes, "parts": made.sizes()}
        )  # fmt: skip
        return
    held = ", ".join(f"{part} {size / MB:.1f} MB" for part, size in sorted(made.sizes().items()))
    out.print(f"{folder}: {len(made.files)} files of {made.at}: {held}", markup=False, soft_wrap=True)
